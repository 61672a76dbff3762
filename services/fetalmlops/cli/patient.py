"""``fetalmlops patient``: erase what there is of a patient."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fetalmlops.cli import audited
from fetalmlops.cli.identify import require_pseudonym
from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.platform.deid import erasure
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.platform.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Erase what there is of a patient.")


@app.callback()
def main() -> None:
    """Keep `erase` a command of its own: Typer would run the only one without its name."""


@app.command()
def erase(
    pseudonym: Annotated[str, typer.Argument(help="Pseudonym of the patient.")],
    *,
    reason: audited.Reason,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete a patient's objects and vault entries. Your account, the pseudonym and the reason are recorded first.

    It may be repeated, and completes one that was ended early.
    """
    require_pseudonym(pseudonym)
    audited.require_reason(reason)
    found = asyncio.run(_erase(load_settings(), pseudonym, reason, dry_run=dry_run))
    done = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{len(found.objects)} objects and {len(found.entries)} vault entries {done}")
    for kind, count in sorted(Counter("/".join(uri.split("/")[:2]) for uri in found.objects).items()):
        typer.echo(f"  {count} of {kind}")
    if found.unreadable:
        typer.echo(f"{found.unreadable} objects of zone phi cannot be read: nobody can say by program whose they are")
    days = {topic.name: topic.retention_days for topic in TOPICS}
    table = Table("topic", "events", "kept (days)", title="Events that still refer to the patient, by pseudonym")
    for name, count in sorted(found.events.items()):
        table.add_row(name, str(count), str(days[name] or "no end"))
    Console().print(table)


async def _erase(settings: Settings, pseudonym: str, reason: str, *, dry_run: bool) -> erasure.Erasure:
    valkey, objects = open_valkey(settings), open_objects(settings)

    async def record(outcome: str) -> None:
        await audited.record(settings, "erase-patient", pseudonym, outcome, reason)

    try:
        await record("dry-run" if dry_run else "begun")
        with Progress(TextColumn("{task.description}"), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
            looking = bar.add_task("looking at stored instances", total=None)
            found = await erasure.find_traces(
                settings, valkey, objects, pseudonym, lambda count: bar.update(looking, completed=count)
            )
            if not dry_run:
                deleting = bar.add_task("deleting objects", total=len(found.objects))
                await erasure.erase(valkey, objects, found, lambda count: bar.update(deleting, completed=count))
        if not dry_run:
            await record("done")
        return found
    finally:
        await valkey.aclose()
