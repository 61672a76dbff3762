"""``fetalmlops energy``: what training, search, serving and idle machines have taken."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.energy.attribution import JOULES_PER_KWH
from fetalmlops.domain.energy.report import Factor, make_report
from fetalmlops.domain.errors import FetalMLOpsError, TransientError
from fetalmlops.platform.energy.ledger import EnergyLedger
from fetalmlops.platform.energy.trainings import bundled_trainings, recorded_trainings
from fetalmlops.platform.keyvalue import open_valkey_blocking
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.energy.entries import Entry
    from fetalmlops.domain.energy.report import Report, Training
    from fetalmlops.platform.settings import Settings

__all__ = ["app"]

_DAYS: Final = 30
_UNKNOWN: Final = "not recorded"
_FORMAT: Final = "%Y-%m-%d"

app = typer.Typer(help="See what the system has taken.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `report` a command of its own."""


@app.command()
def report(
    *,
    since: Annotated[
        datetime | None, typer.Option(formats=[_FORMAT], metavar="DAY", help="First UTC day; default: 30 days ago.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=[_FORMAT], metavar="DAY", help="Last UTC day; default: today.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show the energy of training, search, serving and idle machines, and what it emits; each figure says how it is known."""
    last = until.date() if until else datetime.now(UTC).date()
    first = since.date() if since else last - timedelta(days=_DAYS)
    if first > last:
        msg = f"Expected --since to be no later than --until, got {first} and {last}"
        raise typer.BadParameter(msg)
    made = _report(load_settings(), first, last)
    if as_json:
        typer.echo(msgspec.json.encode(made).decode())
    else:
        _show(made)


def _report(settings: Settings, first: date, last: date) -> Report:
    notes: list[str] = []
    energy = settings.energy
    factor = Factor(grams_per_kwh=energy.grams_per_kwh, region=energy.region, source=energy.factor_source)
    trainings = list(_trainings(settings, first, last, notes))
    entries = _entries(settings, first, last, notes)
    return make_report(first.isoformat(), last.isoformat(), factor, trainings, entries, notes)


def _trainings(settings: Settings, first: date, last: date, notes: list[str]) -> Iterator[Training]:
    """Yield each training once: a bundle's manifest tells what MLflow's record of its training tells, too."""
    seen: set[str] = set()
    try:
        for digest, training in recorded_trainings(settings.home, first, last):
            seen.add(digest)
            yield training
    except FetalMLOpsError as error:
        notes.append(str(error))
    for digest, training in bundled_trainings(settings.home, first, last):
        if digest not in seen:
            yield training


def _entries(settings: Settings, first: date, last: date, notes: list[str]) -> list[Entry] | None:
    try:
        with open_valkey_blocking(settings) as valkey:
            return [entry for _, entry in EnergyLedger(valkey).read(first, last)]
    except TransientError as error:
        notes.append(f"Serving and idle are not known: {error}")
        return None


def _show(made: Report) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="dim", title=f"Energy, {made.since} to {made.until} (UTC)")
    for column in ("part", "of"):
        table.add_column(column)
    for column in ("J", "kWh", "g CO2e"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("known")
    sources: dict[str, int] = {}
    for line in made.lines:
        mark = f" [{sources.setdefault(line.source, len(sources) + 1)}]" if line.source else ""
        known = _UNKNOWN if line.joules is None else f"{line.method}{mark}"
        name = line.name if line.counted else f"{line.name}, elsewhere"
        table.add_row(line.part, name, *_figures(line.joules, made.factor), known)
    for part, joules in made.totals.items():
        table.add_row("total", part, *_figures(joules, made.factor), _UNKNOWN if joules is None else "", style="bold")
    console.print(table)
    for text in _said(made, sources):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _figures(joules: float | None, factor: Factor) -> tuple[str, str, str]:
    if joules is None:
        return "", "", ""
    kwh = joules / JOULES_PER_KWH
    return _number(joules), _number(kwh), _number(kwh * factor.grams_per_kwh)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _said(made: Report, sources: dict[str, int]) -> Iterator[str]:
    yield ""
    each = made.per_image
    if each and each.inference is not None and each.work is not None and each.with_idle is not None:
        yield (
            f"An image of {each.images:,}: {each.inference:.3g} J in inference, {each.work:.3g} J in all processes, "
            f"{each.with_idle:.3g} J with the machine's idle power"
        )
    elif each:
        yield f"An image: {_UNKNOWN}, none stands in the ledger of this time, which is written once a minute"
    for source, number in sources.items():
        yield f"[{number}] {source}"
    if any(not line.counted for line in made.lines):
        yield "elsewhere: trained on another system, and not in the total"
    factor = made.factor
    yield f"Factor: {factor.grams_per_kwh:g} g CO2e a kWh, {factor.region} ({factor.source})"
    yield f"Not included: {'; '.join(made.excluded)}"
    yield from made.notes
