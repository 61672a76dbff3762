"""``fetalmlops quarantine``: the events that a stage could not handle, and what to do with them."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections import Counter
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.cli import audited
from fetalmlops.cli.ages import age
from fetalmlops.domain.contracts.events import QuarantineOutcome
from fetalmlops.platform import quarantine as actions
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.contracts.events import EventQuarantined
    from fetalmlops.domain.operations.ledger import OpenEntry
    from fetalmlops.platform.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="The events that a stage could not handle, and what to do with them.", no_args_is_help=True)

_Entry = Annotated[str, typer.Argument(help="Entry id, or its beginning.")]
_Area = "X0,Y0,X1,Y1"
_SHORT = 12


@app.command("list")
def list_entries(
    *,
    reason: Annotated[str, typer.Option(help="Only entries of this reason, such as pixels-unproven.")] = "",
    source: Annotated[str, typer.Option(help="Only entries of this source.")] = "",
    stage: Annotated[str, typer.Option(help="Only entries of this stage.")] = "",
    count: Annotated[bool, typer.Option("--count", help="Count them by stage, reason, why and source.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON.")] = False,
) -> None:
    """List the open entries, oldest first. Reason and why are bounded words; scanners are keyed hashes."""
    entries = [
        item
        for item in asyncio.run(actions.read_ledger(load_settings().kafka)).open()
        if (not reason or item.entry.reason == reason)
        and (not source or _source(item.entry) == source)
        and (not stage or item.entry.stage == stage)
    ]
    if as_json:
        typer.echo(json.dumps([{"time_ms": item.time_ms, **_builtins(item.entry)} for item in entries]))
        return
    Console().print(_counts(entries) if count else _table(entries))


@app.command()
def show(
    entry: _Entry,
    *,
    thumbnail: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Also draw the image: what was proven as it is, all else as a coarse mosaic, found text filled. "
            "Needs --reason; recorded first. Handle the file as the original: it shows a patient's image.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record. Do not name the patient here.")] = "",
) -> None:
    """Show an entry: why it is here and where its object lies. The original's bytes are not shown."""
    settings = load_settings()
    if thumbnail is not None:
        audited.require_reason(reason)
        asyncio.run(_thumbnail(settings, entry, thumbnail, reason))
    whole = asyncio.run(_read(settings, entry))
    Console().print_json(
        data={
            **_builtins(whole),
            "value_bytes": len(whole.value or b""),
            "headers": [header.name for header in whole.headers],
        }
    )


@app.command()
def replay(
    entry: Annotated[str, typer.Argument(help="Entry id, its beginning, or 'all'.")],
    *,
    stage: Annotated[str, typer.Option(help="With 'all': only entries of this stage.")] = "",
) -> None:
    """Put an entry's original back on its topic, for the stage that refused it."""
    count = asyncio.run(_replay(load_settings(), entry, stage))
    typer.echo(f"{count} replayed; an entry closes once its stage has an outcome")


@app.command()
def drop(entry: _Entry, *, reason: audited.Reason) -> None:
    """Close an entry without a replay: its instance gets no result. Your account and the reason are recorded first."""
    audited.require_reason(reason)
    identity = asyncio.run(_drop(load_settings(), entry, reason))
    typer.echo(f"{identity} dropped")


@app.command()
def release(
    entry: _Entry,
    *,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar=_Area, help="An area that shows no identifier; exactly these are kept. Repeatable."),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar=_Area, help="An area to blank within what is kept. Repeatable."),
    ] = None,
    account: Annotated[str, typer.Option(help="Your account id, for the record.")],
    reason: audited.Reason,
    dry_run: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Only draw what would be kept, as it would be. Recorded too."),
    ] = None,
) -> None:
    """Release the pixels of ONE image that was refused for them, and replay it: you state what shows no identifier.

    Areas are in pixels of the image from the upper left corner: X0 and Y0 inclusive, X1 and Y1 exclusive. Without --keep, what
    regions or the device's profile prove is kept, less --mask. Everything else is blanked. Your account, the reason and the
    areas are recorded first.

    There is no release of all images of a scanner: propose a profile of the device for it, with fetalmlops deid device-profile.
    """
    from fetalmlops.cli import releasing

    audited.require_reason(reason)
    settings = load_settings()
    areas = releasing.parse_areas(keep or ()), releasing.parse_areas(mask or ())
    if dry_run is not None:
        asyncio.run(releasing.preview_release(settings, entry, *areas, account, reason, dry_run))
        typer.echo(f"{dry_run} shows what would be kept; nothing is released. Handle it as the original")
        return
    made = asyncio.run(releasing.release_entry(settings, entry, *areas, account, reason))
    typer.echo(f"{made.entry_id} released by record {made.digest}; the entry closes once its stage has an outcome")


async def _thumbnail(settings: Settings, wanted: str, place: Path, reason: str) -> None:
    from fetalmlops.cli import releasing

    await releasing.show_thumbnail(settings, wanted, place, reason)


async def _read(settings: Settings, wanted: str) -> EventQuarantined:
    return await actions.read_entry(settings.kafka, await actions.find_entry(settings.kafka, wanted))


async def _replay(settings: Settings, wanted: str, stage: str) -> int:
    if wanted == "all":
        items = (await actions.read_ledger(settings.kafka)).open()
    else:
        items = [await actions.find_entry(settings.kafka, wanted)]
    objects = open_objects(settings)
    count = 0
    async with actions.publishing(settings.kafka) as publisher:
        for item in items:
            if not stage or item.entry.stage == stage:
                await actions.replay(await actions.read_entry(settings.kafka, item), publisher, objects)
                count += 1
    return count


async def _drop(settings: Settings, wanted: str, reason: str) -> str:
    item = await actions.find_entry(settings.kafka, wanted)
    await audited.record(settings, "drop-entry", item.entry.entry_id, "granted", reason)
    async with actions.publishing(settings.kafka) as publisher:
        actor = getpass.getuser()
        await actions.resolve(item.entry.entry_id, QuarantineOutcome.DROPPED, actor, reason, publisher, process="cli")
    return item.entry.entry_id


def _table(entries: Sequence[OpenEntry]) -> Table:
    table = Table(title=f"{len(entries)} open entries")
    table.add_column("entry", no_wrap=True)
    for name in ("age", "stage", "kind", "reason", "why", "replays", "source", "scanner", "instance"):
        table.add_column(name)
    for item in entries:
        entry, context = item.entry, item.entry.context
        table.add_row(
            entry.entry_id,
            age(item.time_ms),
            entry.stage,
            entry.kind,
            entry.reason,
            _why(entry),
            str(entry.replay_number),
            _source(entry),
            context.scanner[:_SHORT] if context else "",
            context.instance[:_SHORT] if context else "",
        )
    return table


def _counts(entries: Sequence[OpenEntry]) -> Table:
    counts = Counter((item.entry.stage, item.entry.reason, _why(item.entry), _source(item.entry)) for item in entries)
    oldest = {}
    for item in reversed(entries):
        oldest[(item.entry.stage, item.entry.reason, _why(item.entry), _source(item.entry))] = item.time_ms
    table = Table("entries", "stage", "reason", "why", "source", "oldest", title=f"{len(entries)} open entries")
    for group, number in counts.most_common():
        table.add_row(str(number), *group, age(oldest[group]))
    return table


def _why(entry: EventQuarantined) -> str:
    """Return in a bounded word why an image's pixels were refused, as far as its entry says."""
    if entry.details is None:
        return ""
    return entry.details.code or ("text" if entry.details.texts else "")


def _source(entry: EventQuarantined) -> str:
    return entry.context.source if entry.context else ""


def _builtins(entry: EventQuarantined) -> dict[str, object]:
    values: dict[str, object] = msgspec.to_builtins(entry)
    return {name: value for name, value in values.items() if name not in {"value", "headers"}}
