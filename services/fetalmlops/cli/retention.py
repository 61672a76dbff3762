"""``fetalmlops retention``: what the keeper would delete now."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.keeper.retention import expired
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.quarantine import read_ledger
from fetalmlops.platform.settings import load_settings

__all__ = ["retention"]


def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Required: this command only shows, the keeper deletes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the URIs as JSON.")] = False,
) -> None:
    """Show which objects the keeper would delete now, by the lifetimes of the settings."""
    if not dry_run:
        msg = "Expected --dry-run: this command only shows what would go; the keeper deletes by itself"
        raise typer.BadParameter(msg)
    settings = load_settings()
    held = asyncio.run(read_ledger(settings.kafka)).origins()
    uris = list(expired(open_objects(settings), settings.keeper, held, round(time.time() * 1000)))
    if as_json:
        typer.echo(json.dumps(uris))
        return
    table = Table(
        "class", "objects", title=f"{len(uris)} objects would be deleted; open quarantine entries hold {len(held)}"
    )
    for name, count in sorted(Counter("/".join(uri.split("/")[:2]) for uri in uris).items()):
        table.add_row(name, str(count))
    Console().print(table)
