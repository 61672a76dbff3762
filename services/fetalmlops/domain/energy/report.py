"""What a system has taken: training, search, serving and idle, in joules, kilowatt-hours and g CO2e."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.attribution import JOULES_PER_KWH, Share
from fetalmlops.domain.energy.entries import MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fetalmlops.domain.energy.entries import Entry

__all__ = ["EXCLUDED", "Factor", "Line", "PerImage", "Report", "Training", "make_report"]

EXCLUDED: Final = (
    "embodied carbon: the making and the end of the machines",
    "memory, disks, network, power supplies and cooling, where a counter does not see them",
    "the broker, Valkey and the object store",
)
"""What no figure of the report holds."""


class Factor(Struct, frozen=True, kw_only=True):
    """Emissions of a kilowatt-hour, with the region and year that they are of and where the figure is from."""

    grams_per_kwh: float
    region: str
    source: str


class Training(Struct, frozen=True, kw_only=True):
    """A training, as its record tells of it.

    Parameters
    ----------
    name
        Name of its recipe or bundle.
    purpose
        ``training``, or ``search`` for one of many whose best recipe was kept.
    kwh
        Its energy; None where none was recorded.
    method, source
        How it is known, and by what.
    here
        Whether it ran on this system; one that made a bundle of the package did not.
    """

    name: str
    purpose: str
    kwh: float | None
    method: EnergyMethod
    source: str
    here: bool = True


class Line(Struct, frozen=True, kw_only=True):
    """One line of the report.

    Parameters
    ----------
    part
        ``training``, ``search``, ``serving`` or ``idle``.
    name
        Of the training, process or machine.
    joules, kwh, co2e_g
        Its energy, and the emissions of that; None where nothing was recorded.
    method, source
        How it is known, and by what.
    counted
        Whether the totals hold it.
    """

    part: str
    name: str
    joules: float | None
    kwh: float | None
    co2e_g: float | None
    method: EnergyMethod
    source: str
    counted: bool = True


class PerImage(Struct, frozen=True, kw_only=True):
    """Joules of an image that was classified; None where none was.

    Parameters
    ----------
    images, frames
        How many were.
    inference
        Work of the process that runs the model.
    work
        Work of all processes.
    with_idle
        The same, and what the machines took idle meanwhile.
    """

    images: int
    frames: int
    inference: float | None
    work: float | None
    with_idle: float | None


class Report(Struct, frozen=True, kw_only=True):
    """The report.

    Parameters
    ----------
    since, until
        First and last UTC day.
    factor
        What turns energy into emissions.
    lines
        Line by line.
    totals
        Joules by part; None for a part of which nothing is known.
    per_image
        What an image took in serving; None if the ledger could not be read.
    notes
        What is missing, and why.
    excluded
        What no figure holds.
    """

    since: str
    until: str
    factor: Factor
    lines: list[Line]
    totals: dict[str, float | None]
    per_image: PerImage | None
    notes: list[str]
    excluded: list[str]


def make_report(
    since: str,
    until: str,
    factor: Factor,
    trainings: Iterable[Training],
    entries: Sequence[Entry] | None,
    notes: Sequence[str] = (),
) -> Report:
    """Make the report.

    Parameters
    ----------
    since, until
        First and last UTC day.
    factor
        What turns energy into emissions.
    trainings
        Trainings of that time.
    entries
        Entries of the ledger of that time; None if it could not be read.
    notes
        What is missing, and why.
    """
    lines = [
        _line(
            factor,
            training.purpose,
            training.name,
            None if training.kwh is None else training.kwh * JOULES_PER_KWH,
            training.method,
            training.source,
            counted=training.here,
        )
        for training in trainings
    ]
    merged = _merged(entries or ())
    lines += [_line(factor, _part(entry), entry.process, entry.joules, entry.method, entry.source) for entry in merged]
    parts = ("training", "search", "serving", "idle")
    return Report(
        since=since,
        until=until,
        factor=factor,
        lines=sorted(lines, key=lambda line: (parts.index(line.part), not line.counted, -(line.joules or 0.0))),
        totals={part: _total(lines, part) for part in parts},
        per_image=None if entries is None else _per_image(merged),
        notes=[*notes],
        excluded=[*EXCLUDED],
    )


def _line(
    factor: Factor,
    part: str,
    name: str,
    joules: float | None,
    method: EnergyMethod,
    source: str,
    *,
    counted: bool = True,
) -> Line:
    kwh = None if joules is None else joules / JOULES_PER_KWH
    grams = None if kwh is None else kwh * factor.grams_per_kwh
    return Line(
        part=part, name=name, joules=joules, kwh=kwh, co2e_g=grams, method=method, source=source, counted=counted
    )


def _merged(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries with those of one process, share, method and source together."""
    found: dict[tuple[str, str, str, str], Entry] = {}
    for entry in entries:
        key = (entry.process, entry.share, entry.method, entry.source)
        found[key] = found[key].plus(entry) if key in found else entry
    return list(found.values())


def _part(entry: Entry) -> str:
    return "idle" if entry.share is Share.IDLE else "serving"


def _total(lines: Iterable[Line], part: str) -> float | None:
    known = [line.joules for line in lines if line.part == part and line.counted and line.joules is not None]
    return sum(known) if known else None


def _per_image(entries: Sequence[Entry]) -> PerImage:
    images, frames = sum(entry.images for entry in entries), sum(entry.frames for entry in entries)
    serving = {entry.process for entry in entries if entry.images}
    work = sum(entry.joules for entry in entries if entry.share is Share.WORK)
    inference = sum(entry.joules for entry in entries if entry.process in serving and entry.share is Share.WORK)
    idle = sum(entry.joules for entry in entries if entry.process == MACHINE)

    def each(joules: float) -> float | None:
        return joules / images if images else None

    return PerImage(
        images=images, frames=frames, inference=each(inference), work=each(work), with_idle=each(work + idle)
    )
