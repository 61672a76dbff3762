"""``fetalmlops patient``: erase what there is of a patient."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.cli.identify import require_pseudonym, require_reason
from fetalmlops.domain.contracts.events import AuditRecorded
from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.platform import audit, erasure
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
    reason: Annotated[str, typer.Option(help="Why, for the record. Do not name the patient here.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
) -> None:
    """Delete a patient's objects and vault entries. Your account, the pseudonym and the reason are recorded first.

    It may be repeated, and completes one that was ended early.
    """
    require_pseudonym(pseudonym)
    require_reason(reason)
    found = asyncio.run(_erase(load_settings(), pseudonym, reason, dry_run=dry_run))
    done = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{len(found.objects)} objects and {len(found.entries)} vault entries {done}")
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
        entry = AuditRecorded(
            process="cli",
            actor=getpass.getuser(),
            action="erase-patient",
            subject=pseudonym,
            outcome=outcome,
            reason=reason,
        )
        await audit.record(settings, entry)

    try:
        await record("dry-run" if dry_run else "begun")
        found = await erasure.find_traces(settings, valkey, objects, pseudonym)
        if not dry_run:
            await erasure.erase(valkey, objects, found)
            await record("done")
        return found
    finally:
        await valkey.aclose()
