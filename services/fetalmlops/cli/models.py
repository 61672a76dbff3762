"""``fetalmlops models``: which bundle serves in which role, since when, by whom and why; and what a shadow would change."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.cli.ages import age
from fetalmlops.cli.agreeing import print_agreements, read_agreements
from fetalmlops.cli.confirming import served
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.platform.inference.client import open_inference
from fetalmlops.platform.inference.promotion import read_history
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.operations.promotions import History, Promoted
    from fetalmlops.platform.settings import Settings

__all__ = ["app"]

_SHORT = 12
_ROLES = (Role.CHAMPION, Role.SHADOW)

app = typer.Typer(help="Show which bundle serves in which role, and why.", invoke_without_command=True)
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def models(context: typer.Context, *, as_json: _AsJson = False) -> None:
    """Show which bundle has which role by record, and what the inference service says that it serves."""
    if context.invoked_subcommand:
        return
    settings = load_settings()
    history = read_history(open_objects(settings, Zone.CLEAN))
    rows = asyncio.run(_rows(settings, history))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    console = Console(highlight=False)
    for row in rows:
        digest = row["digest"][:_SHORT]
        console.print(f"[bold]{row['role']}[/] {row['model']} {row['version']}, {row['status']}, digest {digest}")
        console.print(f"    since {age(row['time_ms'])} ago, by {row['by']}:", Text(row["why"]))
        console.print(f"    the inference service: {row['service']}")
    if not rows:
        console.print("No model was promoted; see fetalmlops provision")


@app.command()
def history(*, as_json: _AsJson = False) -> None:
    """List every promotion, rollback and end of a role, the oldest first."""
    rows = [*_deeds(read_history(open_objects(load_settings(), Zone.CLEAN)))]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("when (UTC)", no_wrap=True)
    for column in ("what", "model", "digest", "by", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        moment = datetime.fromtimestamp(row["time_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        what, model = f"{row['deed']}, {row['role']}", f"{row['model']} {row['version']}"
        table.add_row(moment, what, model, row["digest"][:_SHORT], Text(row["by"]), Text(row["why"]))
    Console().print(table)


@app.command()
def shadow(*, as_json: _AsJson = False) -> None:
    """Show where shadows agree with champions, on the instances of which both have a result."""
    found = asyncio.run(read_agreements(load_settings().kafka))
    print_agreements(found, as_json=as_json)


def _deeds(history: History) -> Iterator[dict[str, Any]]:
    for each in history.promotions:
        event = each.event
        deed = "end" if event.retired else "rollback" if event.rollback else "promotion"
        yield {"time_ms": each.time_ms, "deed": deed, **_facts(each)}


def _facts(promoted: Promoted) -> dict[str, Any]:
    event = promoted.event
    return {
        "role": event.role,
        "model": event.model,
        "version": event.version,
        "status": event.release_status,
        "digest": event.bundle_digest,
        "by": event.actor,
        "why": event.reason,
    }


async def _rows(settings: Settings, history: History) -> list[dict[str, Any]]:
    rows = []
    async with open_inference(settings.inference) as client:
        for role in _ROLES:
            current = history.current(role)
            if current is None:
                continue
            found, digest = await served(client, role)
            agrees = digest == current.event.bundle_digest
            service = "no answer" if digest is None else "serves it" if agrees else f"serves {found}"
            rows.append({"time_ms": current.time_ms, **_facts(current), "service": service})
    return rows
