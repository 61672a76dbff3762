"""Reading and printing how shadows agree with champions."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED, INSTANCE_SHADOWED
from fetalmlops.domain.operations.agreement import agreements
from fetalmlops.domain.operations.results import CurrentResults
from fetalmlops.platform.bus import read_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.operations.agreement import Agreement
    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["print_agreements", "read_agreements"]


async def read_agreements(kafka: KafkaSettings) -> list[Agreement]:
    """Return the agreements over all that both topics still hold.

    Raises
    ------
    TransientError
        If the broker is away.
    """
    return agreements(await _current(kafka, INSTANCE_CLASSIFIED), await _current(kafka, INSTANCE_SHADOWED))


def print_agreements(found: Sequence[Agreement], *, as_json: bool) -> None:
    """Print agreements as JSON, or as text with tables."""
    if as_json:
        typer.echo(json.dumps([_plain(each) for each in found]))
        return
    console = Console(highlight=False)
    if not found:
        console.print("No instance has a result of both; see fetalmlops models")
    for each in found:
        console.print(f"champion {each.champion}, shadow {each.shadow}:")
        console.print(f"judged by both: {each.instances} instances, patients: {each.patients}")
        console.print(f"same plane {_share(each.planes)}, same decision {_share(each.decisions)}")
        console.print(_crossed("decision", each.decision_counts))
        if each.planes.value != 1:
            console.print(_crossed("plane", each.plane_counts))


async def _current(kafka: KafkaSettings, topic: Topic) -> CurrentResults:
    current = CurrentResults()
    async for record, result in read_events(kafka, topic, InstanceClassified):
        current.add(Envelope.from_headers(record.headers).id, result)
    return current


def _share(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} (no interval from one patient)"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f}, by patient)"


def _crossed(what: str, counts: Mapping[tuple[str, str], int]) -> Table:
    """Return counts as a table, the champion's words down and the shadow's across."""
    rows, columns = (sorted({pair[side] for pair in counts}) for side in (0, 1))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{what}: champion down, shadow across")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row, *(str(counts.get((row, column), 0)) for column in columns))
    return table


def _plain(agreement: Agreement) -> dict[str, object]:
    values = asdict(agreement)
    for name in ("decision_counts", "plane_counts"):
        crossed: dict[str, dict[str, int]] = {}
        for (champion, shadow), count in values[name].items():
            crossed.setdefault(champion, {})[shadow] = count
        values[name] = crossed
    return values
