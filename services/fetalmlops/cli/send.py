"""``fetalmlops send``: DICOM files by C-STORE, exactly as they are stored."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fetalmlops.cli.sending import (
    AecOption,
    AetOption,
    AssociationsOption,
    CaOption,
    CertificateOption,
    HostOption,
    JsonOption,
    KeyOption,
    PortOption,
    TlsOption,
    json_line,
    make_peer,
    make_tls,
    send_with_progress,
    summary_table,
)
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.dicom.storescu import find_files

if TYPE_CHECKING:
    from fetalmlops.platform.dicom.storescu import SendOutcome

__all__ = ["send"]


def send(
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders with files at any depth.")],
    *,
    host: HostOption = "",
    port: PortOption = 0,
    aet: AetOption = "FETALSIM",
    aec: AecOption = "",
    associations: AssociationsOption = 1,
    tls: TlsOption = False,
    ca_file: CaOption = None,
    certificate_file: CertificateOption = None,
    key_file: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files by C-STORE; the exit code is 1 when any was not stored."""
    if missing := [str(path) for path in paths if not path.exists()]:
        msg = f"Expected files and folders that exist, got {', '.join(missing)}; check the paths"
        raise FetalMLOpsError(msg)
    security = make_tls(tls=tls, ca_file=ca_file, certificate_file=certificate_file, key_file=key_file)
    peer = make_peer(host, port, aec, aet, security)
    console = Console(stderr=as_json)
    failed: list[SendOutcome] = []
    sent_bytes = 0

    def report(outcome: SendOutcome) -> None:
        nonlocal sent_bytes
        sent_bytes += outcome.size if outcome.stored else 0
        if as_json:
            typer.echo(json_line(outcome))
        if not outcome.stored:
            failed.append(outcome)

    files = list(find_files(paths))
    start = time.perf_counter()
    counts = send_with_progress(files, peer, associations, console, report)
    seconds = time.perf_counter() - start
    if not as_json:
        console.print(summary_table(counts))
        for outcome in failed[:_SHOWN]:
            # One line each, however wide the terminal is: it may be read by a program.
            console.print(f"[red]{outcome.path}[/red]: {outcome.summary}", soft_wrap=True)
        rate = len(files) / max(seconds, 1e-9)
        console.print(f"{sent_bytes / 1e6:.1f} MB in {seconds:.1f} s, {rate:.1f} instances/s")
    if failed:
        raise typer.Exit(1)


_SHOWN = 10
