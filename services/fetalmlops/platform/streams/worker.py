"""The work on one event: attempt, verdict, and everything that must be durable before the event is acknowledged.

Nothing leaves `Worker.work`: an event ends as an outcome, in quarantine, or the process ends before its offset is committed.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import (
    Event,
    InstanceEvent,
    QuarantineKind,
    QuarantineOutcome,
    QuarantineResolved,
)
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import QUARANTINE_RESOLVED
from fetalmlops.domain.errors import DeadlyError, ObjectMissingError, PermanentError, TransientError
from fetalmlops.platform.service import EXIT_RETRY
from fetalmlops.platform.streams.quarantine import Refusal, entries_for, entry_id, keep_value
from fetalmlops.platform.streams.stage import Delivery, Emission, Outcome
from fetalmlops.platform.streams.window import Gate
from fetalmlops.platform.telemetry import current_traceparent, get_logger, span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from fetalmlops.platform.bus import Publisher
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.streams.attempts import Attempts
    from fetalmlops.platform.streams.stage import Record, Stage

__all__ = ["Worker"]

E = TypeVar("E", bound=Event)
P = ParamSpec("P")
R = TypeVar("R")

_MIB = 1 << 20
_LONG_BYTES = 8 * _MIB
_MISSING_PATIENCE_MS = 60_000
_QUARANTINE_PATIENCE_S = 60.0
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0

_events = Counter("fetalmlops_stage_events", "Events by stage and verdict", ["stage", "verdict"])
_seconds = Histogram(
    "fetalmlops_stage_duration_seconds",
    "Time from taking an event to its verdict",
    ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
_log = get_logger(__name__)


class Worker(Generic[E]):
    """Works on the events of one stage.

    Parameters
    ----------
    stage
        The stage.
    service
        The process it runs in.
    publisher
        Where outcomes go.
    attempts
        Record of what is in work.
    objects
        For done markers and long quarantined values.
    """

    def __init__(
        self, stage: Stage[E], service: Service, publisher: Publisher, attempts: Attempts, objects: ObjectStore
    ) -> None:
        self._stage = stage
        self._service = service
        self._publisher = publisher
        self._attempts = attempts
        self._objects = objects
        self._gate = Gate()
        self._slow = asyncio.Lock()
        self._settings = service.settings.stream

    def read(self, record: Record) -> tuple[Envelope | None, E | None, Refusal | None]:
        """Return a record's envelope and event, or why it cannot be read."""
        envelope = None
        try:
            envelope = Envelope.from_headers(record.headers)
            envelope.require(self._stage.source.name)
            return envelope, decode(self._stage.event, record.value), None
        except PermanentError as error:
            return envelope, None, Refusal(kind=QuarantineKind.PERMANENT, reason=error.reason, message=str(error))

    async def work(self, record: Record, envelope: Envelope | None, event: E | None, refusal: Refusal | None) -> None:
        """Bring one event to its verdict; returns when the event may be acknowledged."""
        name = self._stage.name
        if envelope and envelope.replay_stage and envelope.replay_stage != name:
            return
        begun = time.perf_counter()
        with span(
            f"process {self._stage.source.name}",
            traceparent=envelope.traceparent if envelope else "",
            tracestate=envelope.tracestate if envelope else "",
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": record.topic,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
                "messaging.consumer.group.name": name,
            },
        ) as current:
            try:
                verdict = await self._verdict(record, envelope, event, refusal)
            except Exception:  # noqa: BLE001 - whatever it is, it must not be acknowledged
                _log.exception("gave_up", stage=name)
                os._exit(EXIT_RETRY)
            current.set_attribute("fetalmlops.verdict", verdict)
        _events.labels(name, verdict).inc()
        _seconds.labels(name).observe(time.perf_counter() - begun)
        self._service.health.event_handled()

    async def _verdict(
        self, record: Record, envelope: Envelope | None, event: E | None, refusal: Refusal | None
    ) -> str:
        if envelope is None or event is None:
            reason = refusal or Refusal(kind=QuarantineKind.PERMANENT, reason="unreadable", message="Expected an event")
            return await self._refuse(record, envelope, event, reason)
        delivery = Delivery(record, envelope, event)
        result = await self._guarded(delivery)
        if isinstance(result, Refusal):
            verdict = await self._refuse(record, envelope, event, result)
        else:
            verdict = await self._complete(delivery, result)
        await self._until_served(self._attempts.end, envelope.id)
        return verdict

    async def _guarded(self, delivery: Delivery[E]) -> Outcome | Refusal:
        """Run the handler beside others or, where the event is under suspicion of killing its process, alone."""
        attempt = await self._until_served(self._attempts.begin, delivery.envelope.id)
        if attempt.deaths >= self._settings.deaths:
            return _deadly(attempt.deaths)
        if not attempt.suspect:
            async with self._gate.together():
                return await self._attempt(delivery, attempt.deaths)
        async with self._gate.alone():
            await self._until_served(self._attempts.alone, delivery.envelope.id, attempt.deaths)
            return await self._attempt(delivery, attempt.deaths)

    async def _attempt(self, delivery: Delivery[E], deaths: int) -> Outcome | Refusal:
        deadline = self._deadline(delivery.event)
        delay, waiting = _FIRST_WAIT_S, ""
        while True:
            try:
                async with self._lane(delivery, deaths), asyncio.timeout(deadline) as limit:
                    outcome = await self._stage.handle(replace(delivery, limit=limit))
            except TimeoutError:
                message = f"Expected an attempt to end within {deadline:.0f} s, got no answer; the event is parked"
                return Refusal(kind=QuarantineKind.TRANSIENT, reason="deadline", message=message)
            except DeadlyError as error:
                deaths += 1
                _log.warning("child_died", stage=self._stage.name, deaths=deaths, error=str(error))
                if deaths >= self._settings.deaths:
                    return _deadly(deaths)
                continue
            except TransientError as error:
                if not error.everyone:
                    return Refusal(kind=QuarantineKind.TRANSIENT, reason=error.dependency, message=str(error))
                waiting, delay = await self._wait_for(error, delay)
                continue
            except ObjectMissingError as error:
                return _missing(delivery.envelope, error)
            except PermanentError as error:
                return Refusal(
                    kind=QuarantineKind.PERMANENT, reason=error.reason, message=str(error), details=error.details
                )
            except Exception as error:  # noqa: BLE001 - a defect of a handler must not lose its event
                _log.exception("handler_failed", stage=self._stage.name)
                message = f"Expected {self._stage.name} to handle the event, got {type(error).__name__}; see its log"
                return Refusal(kind=QuarantineKind.PERMANENT, reason="unexpected", message=message)
            self._service.health.served_by(waiting)
            return outcome

    def _lane(self, delivery: Delivery[E], deaths: int) -> AbstractAsyncContextManager[object]:
        """Return the way for an attempt: one at a time for what is long or has failed before, so that others go on."""
        long = self._stage.size(delivery.event) > _LONG_BYTES
        return self._slow if long or deaths or delivery.envelope.replay_number else nullcontext()

    async def _complete(self, delivery: Delivery[E], outcome: Outcome) -> str:
        await asyncio.gather(*(self._publish(emission) for emission in outcome.emissions))
        if outcome.acknowledged:
            await self._until_served(outcome.acknowledged)
        if outcome.ends:
            await self._mark_done(delivery.event)
        await self._resolve(delivery.envelope)
        return outcome.verdict

    async def _refuse(self, record: Record, envelope: Envelope | None, event: E | None, refusal: Refusal) -> str:
        if self._stage.looks_on:
            _log.warning("passed_over", stage=self._stage.name, reason=refusal.reason, why=refusal.message)
            return refusal.kind.value
        zone = self._stage.source.zone
        identity = entry_id(self._stage.name, record, envelope, event)
        value_ref = await asyncio.to_thread(keep_value, record, zone, identity, self._objects)
        entries = entries_for(self._stage.name, self._stage.source, record, envelope, event, refusal, value_ref)
        await asyncio.gather(*(self._publish(entry, give_up_s=_QUARANTINE_PATIENCE_S) for entry in entries))
        _log.warning(
            "quarantined",
            stage=self._stage.name,
            kind=refusal.kind,
            reason=refusal.reason,
            entry=identity,
            why=refusal.message,
        )
        await self._mark_done(event)
        if envelope is not None:
            await self._resolve(envelope)
        return refusal.kind.value

    async def _publish(self, emission: Emission, *, give_up_s: float | None = None) -> None:
        envelope = Envelope(
            id=emission.id,
            type=emission.topic.name,
            source=f"fetalmlops/{self._stage.name}",
            time_ms=round(time.time() * 1000),
            subject=emission.subject,
            traceparent=current_traceparent(),
        )
        await self._publisher.publish(emission.topic, emission.key, envelope, emission.event, give_up_s=give_up_s)

    async def _mark_done(self, event: E | None) -> None:
        if isinstance(event, InstanceEvent):
            place = f"clean/done/{event.origin}"
            await self._until_served(
                asyncio.to_thread, lambda: self._objects.put(place, b"", "text/plain", durable=False)
            )

    async def _resolve(self, envelope: Envelope) -> None:
        if not envelope.replay_of:
            return
        resolved = QuarantineResolved(
            entry_id=envelope.replay_of, outcome=QuarantineOutcome.REPLAYED, actor=f"stage:{self._stage.name}"
        )
        identity = event_id(envelope.replay_of, "resolved", [str(envelope.replay_number)])
        await self._publish(Emission(topic=QUARANTINE_RESOLVED, key=envelope.replay_of, id=identity, event=resolved))

    async def _until_served(self, call: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call until the dependency behind it answers."""
        delay, waiting = _FIRST_WAIT_S, ""
        while True:
            try:
                result = await call(*args, **kwargs)
            except TransientError as error:
                waiting, delay = await self._wait_for(error, delay)
            else:
                self._service.health.served_by(waiting)
                return result

    async def _wait_for(self, error: TransientError, delay: float) -> tuple[str, float]:
        self._service.health.waiting_for(error.dependency)
        _log.warning("waiting", stage=self._stage.name, dependency=error.dependency, error=str(error))
        await asyncio.sleep(delay)
        return error.dependency, min(delay * 2, _LONGEST_WAIT_S)

    def _deadline(self, event: E) -> float:
        more = max(self._stage.size(event) - _MIB, 0) / _MIB
        return self._settings.deadline_s + more * self._settings.deadline_s_per_mib


def _deadly(deaths: int) -> Refusal:
    message = (
        f"Expected the process to survive the event, got {deaths} deaths on it; inspect its object before a replay"
    )
    return Refusal(kind=QuarantineKind.DEADLY, reason="deadly", message=message, attempts=deaths)


def _missing(envelope: Envelope, error: ObjectMissingError) -> Refusal:
    """Refuse an event whose object is missing: it may come late to a replicated store; after a minute it will not."""
    late = time.time() * 1000 - envelope.time_ms > _MISSING_PATIENCE_MS
    kind = QuarantineKind.PERMANENT if late else QuarantineKind.TRANSIENT
    return Refusal(kind=kind, reason="object-missing", message=str(error))
