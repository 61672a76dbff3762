"""``fetalmlops keys``: the keys of the project and of the vault."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fetalmlops.cli import gateway_keys
from fetalmlops.platform.deid import rotation
from fetalmlops.platform.deid.keys import READABLE_BY_GROUP, load_pseudonym_key, load_vault_keys, make_missing_keys
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections import Counter

    from fetalmlops.platform.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list and rotate keys.")
app.add_typer(gateway_keys.app, name="gateway")


@app.command()
def make(
    *,
    group: Annotated[
        bool, typer.Option("--group", help="Let the files' group read them: services that run as another user.")
    ] = False,
) -> None:
    """Make the keys that are missing, in ``secrets`` of the state folder. Keep a copy elsewhere: none can be made again."""
    made = make_missing_keys(load_settings().model_copy(update={"provision_keys": True}))
    for path in made:
        if group:
            path.chmod(READABLE_BY_GROUP)
        typer.echo(f"made {path}")
    if not made:
        typer.echo("all keys are there already")


@app.command("list")
def list_keys(*, as_json: Annotated[bool, typer.Option("--json", help="Print the keys as JSON.")] = False) -> None:
    """List the keys by id and fingerprint, with their ages and how many vault entries each has encrypted; never a key."""
    settings = load_settings()
    pseudonym, ring = load_pseudonym_key(settings), load_vault_keys(settings)
    counts = asyncio.run(_counts(settings))
    names = sorted({*ring.keys, *counts})
    rows = [
        {
            "key": name,
            "fingerprint": ring.fingerprint(name) if name in ring.keys else "not in the ring",
            "made": ring.made.get(name, ""),
            "active": name == ring.active,
            "entries": counts[name],
        }
        for name in names
    ]
    if as_json:
        typer.echo(json.dumps({"project": settings.project, "pseudonym": pseudonym.fingerprint, "vault": rows}))
        return
    table = Table("vault key", "fingerprint", "made (UTC)", "active", "entries", title=f"Project {settings.project}")
    for row in rows:
        table.add_row(
            str(row["key"]),
            str(row["fingerprint"]),
            str(row["made"] or "unknown"),
            "yes" if row["active"] else "",
            str(row["entries"]),
        )
    Console().print(table)
    typer.echo(f"pseudonym key: fingerprint {pseudonym.fingerprint}; it is never rotated")


@app.command()
def rotate(
    *,
    retire: Annotated[
        bool, typer.Option("--retire", help="Then remove the keys that no entry of the vault uses any more.")
    ] = False,
) -> None:
    """Make a new vault key and re-encrypt the vault to it, while services run. Pseudonyms stay.

    One that was ended early goes on where it stood.
    """
    settings = load_settings()
    with rotation.locked_ring(settings):
        active, retired = asyncio.run(_rotate(settings, retire=retire))
    typer.echo(f"{active} encrypts the vault now; keep a copy of the key file elsewhere")
    if retire:
        typer.echo(f"retired: {', '.join(retired) or 'none'}")


async def _rotate(settings: Settings, *, retire: bool) -> tuple[str, list[str]]:
    valkey = open_valkey(settings)
    try:
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("re-encrypting", total=None)
            active = await rotation.rotate(
                settings, valkey, lambda done, total: bar.update(task, completed=done, total=total)
            )
        return active, await rotation.retire(settings, valkey) if retire else []
    finally:
        await valkey.aclose()


async def _counts(settings: Settings) -> Counter[str]:
    valkey = open_valkey(settings)
    try:
        return await rotation.count_entries(valkey, settings.project)
    finally:
        await valkey.aclose()
