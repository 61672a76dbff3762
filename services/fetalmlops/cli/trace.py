"""``fetalmlops trace``: the way of an instance through the stages."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import EventQuarantined, InstanceClassified, InstanceEvent
from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.domain.errors import ContractError, FetalMLOpsError
from fetalmlops.platform.bus import read_topic
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import Event
    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.platform.settings import Settings

__all__ = ["trace"]


@dataclass(frozen=True)
class _Step:
    time_ms: int
    topic: str
    by: str
    event_id: str
    revision: int | None
    trace_id: str
    what: str


def trace(
    instance: Annotated[
        str, typer.Argument(help="Beginning of an instance pseudonym or content id, as shown by results.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the steps as JSON.")] = False,
) -> None:
    """Show the way of an instance through the stages, with times."""
    steps = asyncio.run(_steps(load_settings(), instance.lower()))
    if not steps:
        msg = f"Expected events of an instance that begins with {instance}, got none; take one from fetalmlops results"
        raise FetalMLOpsError(msg)
    if as_json:
        typer.echo(json.dumps([asdict(step) for step in steps]))
        return
    table = Table("since arrival", "topic", "by", "what", "trace", title=f"Way of {instance}")
    first = min([step.revision for step in steps if step.revision] or [steps[0].time_ms])
    for step in steps:
        table.add_row(f"{step.time_ms - first:,} ms", step.topic, step.by, step.what, step.trace_id[:16])
    Console().print(table)


async def _steps(settings: Settings, wanted: str) -> list[_Step]:
    carrying = [topic for topic in TOPICS if issubclass(topic.event, (InstanceEvent, EventQuarantined))]
    found = await asyncio.gather(*(_steps_of(settings, topic, wanted) for topic in carrying))
    return sorted((step for steps in found for step in steps), key=lambda step: step.time_ms)


async def _steps_of(settings: Settings, topic: Topic, wanted: str) -> list[_Step]:
    steps = []
    async for record in read_topic(settings.kafka, topic):
        try:
            event, envelope = decode(topic.event, record.value), Envelope.from_headers(record.headers)
        except ContractError:
            continue
        if _names(event, wanted):
            revision = event.revision if isinstance(event, InstanceEvent) else None
            trace_id = envelope.traceparent.split("-")[1] if envelope.traceparent else ""
            steps.append(
                _Step(envelope.time_ms, topic.name, envelope.source, envelope.id, revision, trace_id, _what(event))
            )
    return steps


def _names(event: Event, wanted: str) -> bool:
    if not isinstance(event, InstanceEvent | EventQuarantined):
        return False
    instance = event.context.instance if event.context else ""
    return instance.startswith(wanted) or (event.content_id or "").startswith(wanted)


def _what(event: Event) -> str:
    if isinstance(event, InstanceClassified):
        return f"{event.plane or '-'}: {event.decision}"
    if isinstance(event, EventQuarantined):
        return f"quarantined by {event.stage} ({event.kind}, {event.reason})"
    return type(event).__name__
