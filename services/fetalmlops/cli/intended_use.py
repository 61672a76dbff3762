"""``fetalmlops intended-use``: what the classifier is for, and what it must reach."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fetalmlops.platform.learning.intended_use import FILE, open_intended_use, packaged_intended_use
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.learning.intended_use import IntendedUse

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="See and check what the classifier is for.")


@app.command()
def show(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    as_toml: Annotated[
        bool, typer.Option("--toml", help=f"Print the packaged proposal, to begin the state folder's {FILE} with.")
    ] = False,
) -> None:
    """Show the intended use that counts here: the state folder's file, or else the packaged proposal."""
    if as_toml:
        typer.echo(packaged_intended_use().decode(), nl=False)
        return
    use, digest = open_intended_use(load_settings())
    if as_json:
        typer.echo(msgspec.json.encode({"digest": digest, **msgspec.to_builtins(use)}).decode())
        return
    _print(use, digest)


@app.command()
def check(path: Annotated[Path, typer.Argument(help="TOML file of an intended use.")]) -> None:
    """Check a file; the exit code is 1 when it is no intended use."""
    use, digest = open_intended_use(load_settings(), path)
    hazards, forbidden = len(use.hazards), len(use.forbidden)
    typer.echo(
        f"valid: version {use.version}, {use.status}, {hazards} hazards, {forbidden} forbidden uses, digest {digest[:12]}"
    )
    if use.status == "proposal":
        typer.echo('its floors are proposals: a site confirms them, and sets status to "confirmed"')


def _print(use: IntendedUse, digest: str) -> None:
    console = Console(highlight=False)
    console.print(
        f"[bold]{escape(use.title)}[/bold]\nversion {escape(use.version)}, {use.status}, digest {digest[:12]}\n"
    )
    console.print(escape(use.purpose.statement.strip()), "\n")
    weeks = use.population.gestational_weeks
    console.print(f"{escape(use.population.statement)} {weeks.first} to {weeks.last} weeks.\n")
    floors = Table("figure", "proposal" if use.status == "proposal" else "confirmed", title="What it must reach")
    floors.columns[1].justify = "right"
    for name, value in _floors(use):
        floors.add_row(name, f"{value:g}")
    hazards = Table("id", "hazard", "severity", "controls", title="Hazards", show_lines=True)
    for hazard in use.hazards:
        hazards.add_row(hazard.id, escape(hazard.hazard), hazard.severity, escape("\n".join(hazard.controls)))
    forbidden = Table("forbidden", "why", show_lines=True)
    for entry in use.forbidden:
        forbidden.add_row(escape(entry.use), escape(entry.why))
    for table in (floors, hazards, forbidden):
        console.print(table)


def _floors(use: IntendedUse) -> Iterator[tuple[str, float]]:
    for section in ("accuracy", "calibration", "selective", "scope", "precision", "budgets"):
        for name, value in msgspec.to_builtins(getattr(use, section)).items():
            if isinstance(value, dict):
                yield from ((f"{section}.{name}.{word}", floor) for word, floor in value.items())
            else:
                yield f"{section}.{name}", value
