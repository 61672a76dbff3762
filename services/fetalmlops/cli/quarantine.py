"""``fetalmlops quarantine``: the events that a stage could not handle, and what to do with them."""

from __future__ import annotations

import asyncio
import getpass
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.events import QuarantineOutcome
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform import quarantine as actions
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import EventQuarantined
    from fetalmlops.domain.operations.ledger import OpenEntry
    from fetalmlops.platform.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="The events that a stage could not handle, and what to do with them.", no_args_is_help=True)

_Entry = Annotated[str, typer.Argument(help="Entry id, or its beginning.")]
_Reason = Annotated[str, typer.Option(help="Why, for the record.")]


@app.command("list")
def list_entries(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON.")] = False
) -> None:
    """List the open entries, oldest first."""
    entries = asyncio.run(actions.read_ledger(load_settings().kafka)).open()
    if as_json:
        typer.echo(json.dumps([{"time_ms": item.time_ms, **_builtins(item.entry)} for item in entries]))
        return
    table = Table(
        "entry",
        "since (UTC)",
        "zone",
        "stage",
        "kind",
        "reason",
        "replays",
        "instance",
        title=f"{len(entries)} open entries",
    )
    for item in entries:
        entry = item.entry
        instance = entry.context.instance[:12] if entry.context else ""
        since = datetime.fromtimestamp(item.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(
            entry.entry_id, since, entry.zone, entry.stage, entry.kind, entry.reason, str(entry.replay_number), instance
        )
    Console().print(table)


@app.command()
def show(entry: _Entry) -> None:
    """Show an entry: why it is here and where its object lies. The original's bytes are not shown."""
    settings = load_settings()
    item = asyncio.run(_find(settings, entry))
    whole = asyncio.run(actions.read_entry(settings.kafka, item))
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
def drop(entry: _Entry, *, reason: _Reason) -> None:
    """Close an entry without a replay: its instance gets no result. Your account and the reason are recorded."""
    identity = asyncio.run(_drop(load_settings(), entry, reason))
    typer.echo(f"{identity} dropped")


async def _replay(settings: Settings, wanted: str, stage: str) -> int:
    items = (await actions.read_ledger(settings.kafka)).open() if wanted == "all" else [await _find(settings, wanted)]
    publisher = await _publisher(settings)
    objects = open_objects(settings)
    count = 0
    try:
        for item in items:
            if not stage or item.entry.stage == stage:
                await actions.replay(await actions.read_entry(settings.kafka, item), publisher, objects)
                count += 1
    finally:
        await publisher.stop()
    return count


async def _drop(settings: Settings, wanted: str, reason: str) -> str:
    item = await _find(settings, wanted)
    publisher = await _publisher(settings)
    try:
        actor = getpass.getuser()
        await actions.resolve(item.entry.entry_id, QuarantineOutcome.DROPPED, actor, reason, publisher, process="cli")
    finally:
        await publisher.stop()
    return item.entry.entry_id


async def _find(settings: Settings, wanted: str) -> OpenEntry:
    found = [
        item for item in (await actions.read_ledger(settings.kafka)).open() if item.entry.entry_id.startswith(wanted)
    ]
    if len(found) != 1:
        msg = f"Expected {wanted} to begin one open entry, got {len(found)}; see fetalmlops quarantine list"
        raise FetalMLOpsError(msg)
    return found[0]


async def _publisher(settings: Settings) -> Publisher:
    publisher = Publisher(settings.kafka, Health("cli"))
    await publisher.start()
    return publisher


def _builtins(entry: EventQuarantined) -> dict[str, object]:
    values: dict[str, object] = msgspec.to_builtins(entry)
    return {name: value for name, value in values.items() if name not in {"value", "headers"}}
