"""``fetalmlops keys gateway``: who may call the REST gateway."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fetalmlops.gateway.accounts import add_key, read_keys, remove_key
from fetalmlops.platform.settings import load_settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make, list and remove the keys of the gateway's callers.")

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the caller's account, as the log will call it.")]


@app.command()
def add(name: _Name) -> None:
    """Make a key for a new caller and print it, once: only its digest is kept. It counts at once."""
    typer.echo(add_key(load_settings().gateway_keys_file, name))


@app.command("list")
def list_keys(*, as_json: Annotated[bool, typer.Option("--json", help="Print the names as JSON.")] = False) -> None:
    """List the callers that have a key."""
    names = sorted(key.name for key in read_keys(load_settings().gateway_keys_file).keys)
    if as_json:
        typer.echo(json.dumps(names))
        return
    typer.echo("\n".join(names) or "nobody has a key: only programs of this machine may call")


@app.command()
def remove(name: _Name) -> None:
    """Take a caller's key away. It counts at once."""
    remove_key(load_settings().gateway_keys_file, name)
    typer.echo(f"removed {name}")
