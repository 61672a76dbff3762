"""What ``send`` and ``simulate`` share: the options of a peer, the progress bar, the summary."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fetalmlops.platform.dicom.storescu import Peer, SendOutcome, send_files
from fetalmlops.platform.settings import TlsSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

__all__ = ["AssociationsOption", "AecOption", "AetOption", "CaOption", "CertificateOption", "HostOption", "JsonOption",
    "KeyOption", "PortOption", "TlsOption", "json_line", "make_peer", "make_tls", "send_with_progress",
    "summary_table"]  # fmt: skip

HostOption = Annotated[str, typer.Option(help="Host to send to; default: the listener of the settings.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port; default: the listener of the settings.")]
AetOption = Annotated[str, typer.Option(help="Our AE title.")]
AecOption = Annotated[str, typer.Option(help="The called AE title; default: the listener of the settings.")]
AssociationsOption = Annotated[int, typer.Option(min=1, max=64, help="Associations at once.")]
TlsOption = Annotated[bool, typer.Option("--tls", help="Use TLS.")]
CaOption = Annotated[Path | None, typer.Option(help="PEM file of the authorities that vouch for the peer.")]
CertificateOption = Annotated[Path | None, typer.Option(help="PEM file of our certificate.")]
KeyOption = Annotated[Path | None, typer.Option(help="PEM file of our certificate's key.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]

_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


def make_tls(*, tls: bool, ca_file: Path | None, certificate_file: Path | None, key_file: Path | None) -> TlsSettings:
    """Return the TLS settings of the options; files without ``--tls`` are refused: the files would go in plain text."""
    if not tls and (ca_file or certificate_file or key_file):
        msg = "Expected --tls where files of TLS are named, got none; add it, or leave the files out"
        raise typer.BadParameter(msg)
    return TlsSettings(enabled=tls, ca_file=ca_file, certificate_file=certificate_file, key_file=key_file)


def make_peer(host: str, port: int, aec: str, aet: str, tls: TlsSettings) -> Peer:
    """Return whom to send to: what is not given is the listener of the settings."""
    listener = load_settings().listener
    return Peer(
        host=host or ("127.0.0.1" if listener.host in _EVERYWHERE else listener.host),
        port=port or listener.port,
        called=aec or listener.ae_title,
        calling=aet,
        tls=tls,
    )


def send_with_progress(
    files: list[Path], peer: Peer, associations: int, console: Console, report: Callable[[SendOutcome], None]
) -> Counter[str]:
    """Send files under a progress bar; return how many ended how. `report` sees each outcome as it comes."""
    counts: Counter[str] = Counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"to {peer.called}", total=len(files))
        for outcome in send_files(files, peer, associations=associations):
            counts[outcome.summary] += 1
            report(outcome)
            progress.advance(task)
    return counts


def json_line(outcome: SendOutcome, **more: object) -> str:
    """Return an outcome as JSON."""
    shown = {
        "path": str(outcome.path),
        "sop_instance_uid": outcome.sop_instance_uid,
        "status": outcome.status,
        "stored": outcome.stored,
        "summary": outcome.summary,
        "size": outcome.size,
        "seconds": round(outcome.seconds, 4),
    }
    return msgspec.json.encode({**shown, **more}).decode()


def summary_table(counts: Counter[str]) -> Table:
    """Return how many instances ended how."""
    table = Table("outcome", "instances")
    table.columns[1].justify = "right"
    for summary, count in counts.most_common():
        table.add_row(summary, str(count))
    return table
