"""``fetalmlops data``: data sets to learn from and to judge by."""

from __future__ import annotations

import json
import shlex
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from fetalmlops.cli.datasheet.page import contact_sheets, datasheet_page
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.checks import Finding, Weight
from fetalmlops.domain.learning.datasheet import data_facts, make_datasheet, parse_answers
from fetalmlops.domain.learning.layouts import fetal_planes, folders
from fetalmlops.domain.learning.layouts.listing import leave_out
from fetalmlops.domain.learning.manifest import DataManifest, Split, manifest_digest
from fetalmlops.domain.learning.phantoms.images import LEAST_IMAGES
from fetalmlops.domain.learning.phantoms.published import PUBLISHED_IMAGES, plan_published
from fetalmlops.domain.learning.phantoms.scanners import TABLE, USUAL_IMAGES, plan_scanners
from fetalmlops.domain.learning.splits import assign_splits, straddling_patients
from fetalmlops.platform.files import OWNER_ONLY, replace_file
from fetalmlops.platform.learning.checking import check_dataset
from fetalmlops.platform.learning.datasets import (
    MANIFEST,
    add_dataset,
    check_name,
    list_datasets,
    measure_images,
    open_dataset,
)
from fetalmlops.platform.learning.downloads import download, find_offer, unpack
from fetalmlops.platform.learning.intended_use import open_intended_use
from fetalmlops.platform.learning.phantoms import write_phantoms
from fetalmlops.platform.learning.publications import published_answers
from fetalmlops.platform.learning.sources import LAYOUTS, LayoutOptions
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["add", "app", "simulate"]

_SIMULATED = (
    f"{fetal_planes.NAME}: as FETAL_PLANES_DB, in its proportions; "
    f"{folders.NAME}: every split has scanners of its own, and {TABLE} names patients."
)

app = typer.Typer(no_args_is_help=True, help="Add, check and describe data sets.")


@app.command()
def add(
    path: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the data set.")],
    *,
    layout: Annotated[str, typer.Option(help=f"How it lies on disk: {', '.join(LAYOUTS)}.")],
    name: Annotated[str, typer.Option(help="Its name from now on.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out, and count, images that are absent or cannot be read.")
    ] = False,
    patients: Annotated[
        Path | None,
        typer.Option(help="folders: CSV with the columns path and patient, perhaps scanner, operator, site."),
    ] = None,
    patient_pattern: Annotated[
        str, typer.Option(help="folders: regular expression whose group is the patient, searched in each path.")
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(help="dicom, results: CSV with the columns instance, plane, perhaps brain_plane.")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="List of paths to leave out, one a line.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Its licence; default: that of the layout's data set, or private.")] = "",
    citation: Annotated[str, typer.Option(help="What to cite.")] = "",
    site: Annotated[str, typer.Option(help="Where it comes from, for images of which that is not known.")] = "",
    validation_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the training images for validation, drawn by patient.")
    ] = 0.15,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that draw.")] = 0,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Keep all images for test that have no split of their own.")
    ] = False,
) -> None:
    """Add a data set: read every image once, and write its manifest."""
    if layout not in LAYOUTS:
        msg = f"Expected a layout among {', '.join(LAYOUTS)}, got another"
        raise typer.BadParameter(msg)
    check_name(name)
    console = Console(stderr=True)
    source = LAYOUTS[layout]
    listing = source.read(path, LayoutOptions(partial, patients, patient_pattern, labels, site))
    if exclude is not None:
        listing = leave_out(listing, exclude.read_text("utf-8").splitlines())
    listed = assign_splits(listing.images, share=validation_share, seed=seed, held_out=held_out)
    if straddling_patients(listed):
        count = len(straddling_patients(listed))
        msg = f"Expected no patient with images in two splits, got {count} patients; mend the splits of the data"
        raise ContractError(msg, reason="data-split")
    with _bar(console, "reading", len(listed)) as step:
        entries, unreadable = measure_images(path, listed, progress=step)
    for unread in unreadable:
        console.print(f"cannot be read: {unread}", markup=False, highlight=False, soft_wrap=True)
    if unreadable and not partial:
        msg = f"Expected images that can be read, got {len(unreadable)} that cannot; mend them, or use --partial"
        raise ContractError(msg, reason="data-image")
    if not entries:
        msg = "Expected images that can be read, got none; check the folder"
        raise ContractError(msg, reason="data-image")
    manifest = DataManifest(
        name=name,
        layout=layout,
        licence=licence or source.licence,
        citation=citation or source.citation,
        images=entries,
        excluded={**listing.excluded, **({"unreadable": len(unreadable)} if unreadable else {})},
    )
    folder = add_dataset(load_settings(), manifest, path)
    _say(console, manifest, manifest_digest((folder / MANIFEST).read_bytes()))


@app.command("list")
def list_() -> None:
    """List the data sets that were added."""
    settings = load_settings()
    table = Table("name", "layout", "images", "patients", "train", "validation", "test", "digest")
    for name in list_datasets(settings):
        dataset = open_dataset(settings, name)
        manifest = dataset.manifest
        parts = [len(manifest.of(split)) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
        patients = len({image.patient for image in manifest.images})
        numbers = [f"{number:,}" for number in (len(manifest.images), patients, *parts)]
        table.add_row(name, manifest.layout, *numbers, dataset.digest[:12])
    Console().print(table)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Name of a data set, or a folder with a manifest.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    shown: Annotated[int, typer.Option("--paths", min=0, help="Most images to name for each finding.")] = 5,
) -> None:
    """Check for leakage, duplicates, changed or unreadable files, labels and counts; the exit code is 1 where refused."""
    settings = load_settings()
    dataset = open_dataset(settings, name)
    use, _ = open_intended_use(settings)
    console = Console(stderr=True)
    with _bar(console, "checking", len(dataset.manifest.images)) as step:
        findings = check_dataset(dataset, use, progress=step)
    refused = any(finding.weight is Weight.REFUSED for finding in findings)
    if as_json:
        report = {"name": name, "digest": dataset.digest, "refused": refused, "findings": [asdict(f) for f in findings]}
        typer.echo(json.dumps(report))
    else:
        _print_findings(findings, shown)
        Console().print("[red]refused[/red]" if refused else "[green]nothing refuses it[/green]")
    if refused:
        raise typer.Exit(1)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Name of a data set, or a folder with a manifest.")],
    *,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the page here; needs the report extra.")
    ] = None,
    as_json: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, allow_dash=True, help="Write JSON here; - for the terminal."),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML of the site's answers to its questions.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, max=12, help="Small pictures of each plane in the page.")] = 0,
) -> None:
    """Write a data set's datasheet: figures, plots, and what is known of where it comes from."""
    for target in (html, as_json):
        if target is not None and not target.absolute().parent.is_dir():
            msg = f"Expected a folder to write {target.name} into, got none; make it first"
            raise typer.BadParameter(msg)
    dataset = open_dataset(load_settings(), name)
    published = published_answers().get(dataset.manifest.layout, {})
    site = parse_answers(answers.read_bytes()) if answers else {}
    sections = make_datasheet(dataset.manifest, dataset.digest, published, site)
    facts = data_facts(dataset.manifest)
    if html is not None:
        page = datasheet_page(dataset, facts, sections, contact_sheets(dataset, pictures) if pictures else {})
        replace_file(html, page.encode(), OWNER_ONLY)
    if as_json is not None or html is None:
        report = {
            "name": dataset.manifest.name,
            "digest": dataset.digest,
            "facts": facts,
            "sections": {title: [asdict(answer) for answer in found] for title, found in sections.items()},
        }
        text = json.dumps(report, indent=1) + "\n"
        if as_json is None or str(as_json) == "-":
            typer.echo(text, nl=False)
        else:
            replace_file(as_json, text.encode(), OWNER_ONLY)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name in the catalogue: fetal-planes.")],
    *,
    into: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder; default: downloads/NAME of the state folder.")
    ] = None,
    url: Annotated[
        str, typer.Option(help="Another place that has the same file, such as a mirror within the house.")
    ] = "",
) -> None:
    """Download a public data set, or go on with it; verify it, and unpack it."""
    offer = find_offer(name)
    folder = into or load_settings().home / "downloads" / name
    console = Console(stderr=True)
    console.print(f"{offer.title}; {offer.licence}; {offer.page}", highlight=False, soft_wrap=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=offer.size)
        archive = download(offer, folder, url=url, progress=lambda done: progress.update(task, completed=done))
    unpack(archive, folder / "unpacked")
    found = sorted((folder / "unpacked").rglob(offer.marker))
    if not found:
        msg = f"Expected {offer.marker} in the archive, got none; tell the maintainers"
        raise ContractError(msg, reason="archive")
    console.print("verified and unpacked; next:")
    typer.echo(f"fetalmlops data add {shlex.quote(str(found[0].parent))} --layout {offer.layout} --name {name}")


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder to write, or to go on with.")],
    *,
    images: Annotated[
        int | None,
        typer.Option(min=LEAST_IMAGES, help=f"Images; default: {PUBLISHED_IMAGES:,}, or {USUAL_IMAGES:,} in folders."),
    ] = None,
    layout: Annotated[str, typer.Option(help=_SIMULATED)] = fetal_planes.NAME,
    seed: Annotated[int, typer.Option(min=0, help="Seed: equal seeds give equal pixels.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
) -> None:
    """Make a data set of phantoms, as large as FETAL_PLANES_DB or with scanners that training does not see."""
    if layout == fetal_planes.NAME:
        plan = plan_published(images or PUBLISHED_IMAGES, seed)
    elif layout == folders.NAME:
        plan = plan_scanners(images or USUAL_IMAGES, seed)
    else:
        msg = f"Expected the layout {fetal_planes.NAME} or {folders.NAME}, got another"
        raise typer.BadParameter(msg)
    console, count = Console(stderr=True), len(plan.images)
    begin = time.monotonic()
    with _bar(console, "rendering", count) as step:
        made = write_phantoms(out, plan, workers=workers, progress=step)
    seconds = time.monotonic() - begin
    rate = f", {made / seconds:.1f} images/s" if made else ""
    console.print(f"{made:,} images made, {count - made:,} were there, in {seconds:.0f} s{rate}", highlight=False)


def _print_findings(findings: list[Finding], shown: int) -> None:
    console = Console(highlight=False)
    for finding in findings:
        style = "red" if finding.weight is Weight.REFUSED else "yellow"
        console.print(f"[{style}]{finding.weight} {finding.kind}[/{style}]  {escape(finding.text)}")
        for path in finding.paths[:shown]:
            console.print(f"    {escape(path)}", soft_wrap=True)
        if shown and len(finding.paths) > shown:
            console.print(f"    and {len(finding.paths) - shown:,} more")


def _say(console: Console, manifest: DataManifest, digest: str) -> None:
    parts = ", ".join(f"{len(manifest.of(split)):,} {split}" for split in Split if manifest.of(split))
    patients = len({image.patient for image in manifest.images})
    console.print(
        f"{manifest.name}: {len(manifest.images):,} images of {patients:,} patients ({parts}), digest {digest[:12]}",
        highlight=False,
    )
    for reason, count in manifest.excluded.items():
        console.print(f"left out: {count:,} {reason}", highlight=False)


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
