"""``fetalmlops keys``: the keys of a system whose services do not make them."""

from __future__ import annotations

from typing import Annotated

import typer

from fetalmlops.platform.keys import make_missing_keys
from fetalmlops.platform.settings import load_settings

__all__ = ["app"]

# What an orchestrator mounts belongs to another user, so that a service cannot change its own keys.
_READABLE_BY_GROUP = 0o440

app = typer.Typer(no_args_is_help=True, help="The keys of a system whose services do not make them.")


@app.callback()
def main() -> None:
    """Keep `make` a command of its own: Typer would run the only one without its name."""


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
            path.chmod(_READABLE_BY_GROUP)
        typer.echo(f"made {path}")
    if not made:
        typer.echo("all keys are there already")
