"""``fetalmlops simulate``: studies of fetal phantoms, sent by C-STORE or written to a folder."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydicom import uid
from rich.console import Console
from rich.progress import track

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
from fetalmlops.domain.simulation import SCANNERS, BurnIn, Layout, Photometric, StudySpec, find_scanner, make_study

if TYPE_CHECKING:
    from fetalmlops.domain.simulation import InstanceSpec
    from fetalmlops.platform.dicom.storescu import Peer, SendOutcome

__all__ = ["simulate"]

_SYNTAXES = {
    "explicit": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit-big": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "rle": uid.RLELossless,
    "jpeg": uid.JPEGBaseline8Bit,
    "jpeg-extended": uid.JPEGExtended12Bit,
    "jpeg-lossless": uid.JPEGLosslessSV1,
    "jpeg-ls": uid.JPEGLSLossless,
    "jpeg-ls-near": uid.JPEGLSNearLossless,
    "jpeg2000": uid.JPEG2000,
    "jpeg2000-lossless": uid.JPEG2000Lossless,
}


_NAMES = ", ".join(scanner.name for scanner in SCANNERS)


def simulate(
    *,
    instances: Annotated[int, typer.Option(min=1, help="Images of each study.")] = 12,
    studies: Annotated[int, typer.Option(min=1, help="Studies.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Number of the first study: the same number makes the same study.")
    ] = 1,
    scanner: Annotated[str, typer.Option(help=f"On whose screen: {_NAMES}; default: drawn for each study.")] = "",
    cine_frames: Annotated[int, typer.Option(min=0, help="Frames of a cine; every fourth image is one, unless 0.")] = 0,
    transfer_syntax: Annotated[str, typer.Option(help=f"UID, or one of {', '.join(_SYNTAXES)}.")] = "explicit",
    photometric: Annotated[Photometric, typer.Option(help="Photometric interpretation.")] = Photometric.MONOCHROME2,
    burn_in: Annotated[
        BurnIn, typer.Option(help="Where the patient's identity is burned into the pixels.")
    ] = BurnIn.OUTSIDE,
    report: Annotated[bool, typer.Option("--report", help="End each study with a structured report.")] = False,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Write files here, and send nothing.")] = None,
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
    """Make simulated studies and send them to the listener; the exit code is 1 when any instance was not stored."""
    first = StudySpec(
        seed=seed,
        instances=instances,
        scanner=find_scanner(scanner) if scanner else None,
        cine_frames=cine_frames,
        transfer_syntax=_SYNTAXES.get(transfer_syntax, transfer_syntax),
        layout=Layout(photometric=photometric),
        burn_in=burn_in,
        report=report,
    )
    specs = [replace(first, seed=seed + number) for number in range(studies)]
    console = Console(stderr=as_json)
    if out is not None:
        _write(specs, out, console)
        return
    security = make_tls(tls=tls, ca_file=ca_file, certificate_file=certificate_file, key_file=key_file)
    peer = make_peer(host, port, aec, aet, security)
    if not _send(specs, peer, associations, console, as_json=as_json):
        raise typer.Exit(1)


def _write(specs: list[StudySpec], out: Path, console: Console) -> None:
    for spec in specs:
        folder = out / f"study-{spec.seed:05}"
        made = _make(spec, folder, console)
        console.print(f"{len(made)} instances in {folder}")


def _send(specs: list[StudySpec], peer: Peer, associations: int, console: Console, *, as_json: bool) -> bool:
    """Make and send study by study, so that only one at a time lies on disk; return whether all was stored."""
    counts: Counter[str] = Counter()
    stored: list[bool] = []
    for spec in specs:
        with tempfile.TemporaryDirectory(prefix="fetalmlops-simulate-") as folder:
            made = _make(spec, Path(folder), console)
            report = partial(_show, made, stored, console, as_json=as_json)
            counts += send_with_progress(list(made), peer, associations, console, report)
    if not as_json:
        console.print(summary_table(counts))
    return all(stored)


def _make(spec: StudySpec, folder: Path, console: Console) -> dict[Path, InstanceSpec]:
    """Write a study's instances into a folder; return what each file is."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[Path, InstanceSpec] = {}
    total = spec.instances + spec.report
    quiet = not console.is_terminal
    for instance in track(make_study(spec), "making", total, console=console, transient=True, disable=quiet):
        path = folder / f"{instance.spec.number:05}.dcm"
        path.write_bytes(instance.data)
        made[path] = instance.spec
    return made


def _show(
    made: dict[Path, InstanceSpec], stored: list[bool], console: Console, outcome: SendOutcome, *, as_json: bool
) -> None:
    spec = made[outcome.path]
    stored.append(outcome.stored)
    if as_json:
        typer.echo(
            json_line(
                outcome,
                study_instance_uid=spec.study_instance_uid,
                plane=spec.plane if spec.is_image else None,
                brain_plane=spec.brain_plane,
                kind=spec.kind,
                frames=spec.frames if spec.is_image else 0,
                scanner=spec.scanner.name,
            )
        )
        return
    view = f"{spec.plane} {spec.brain_plane or ''}" if spec.is_image else "no image"
    style = "green" if outcome.stored else "red"
    console.print(
        f"study {spec.study} no {spec.number:>3}  {view:<24} {spec.kind:<22} {spec.frames:>4} f  {spec.scanner.name:<8}"
        f" [{style}]{outcome.summary}[/{style}]",
        highlight=False,
        soft_wrap=True,
    )
