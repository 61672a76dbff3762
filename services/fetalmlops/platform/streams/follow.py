"""Follow mode: every copy reads all of a topic, without a group, and holds the state that it describes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import AlarmRaised, Event, Severity
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import ALARM_RAISED
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.bus import BROKER, aiokafka_options
from fetalmlops.platform.streams.stage import Delivery, Record
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiokafka import ConsumerRecord

    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.platform.bus import Publisher
    from fetalmlops.platform.service import Service

__all__ = ["follow"]

E = TypeVar("E", bound=Event)

_POLL_MS = 500
_REMEDY = "Publish a corrected event; the state before it stays in force"
_log = get_logger(__name__)


async def follow(
    topic: Topic,
    event_type: type[E],
    apply: Callable[[Delivery[E]], Awaitable[bool]],
    service: Service,
    publisher: Publisher,
    *,
    every: bool = False,
    state: Callable[[E], str] | None = None,
    remedy: str = _REMEDY,
) -> None:
    """Follow a topic until the process is asked to stop.

    At the start it reads to the end that it finds and applies the last event of each key, or all of them; from then on every
    event as it comes. The process is not ready before. A bad event leaves the state as it was and raises an alarm; nothing is
    committed or quarantined.

    Parameters
    ----------
    topic
        What to follow.
    event_type
        Type of its events.
    apply
        Takes an event into the state, or returns False if it is not part of it: then the one before it of the same key counts.
        A `FetalMLOpsError` from it raises an alarm.
    service
        The process.
    publisher
        For alarms.
    every
        Whether each event counts from the start on, not only the last one of its key.
    state
        Which part of the state an event is for, where that is not its key: an event replaces those before it of the same part.
    remedy
        What to do about an event that is refused, for the alarm.
    """
    waits = f"topic {topic.name}"
    service.health.waiting_for(waits)
    while not service.stopping.is_set():
        consumer = AIOKafkaConsumer(
            **aiokafka_options(service.settings.kafka), auto_offset_reset="earliest", enable_auto_commit=False
        )
        try:
            await consumer.start()
            service.health.served_by(BROKER)
            follower = _Follower(topic, event_type, apply, service, publisher, consumer, state, remedy)
            await follower.catch_up(every=every)
            service.health.served_by(waits)
            await follower.go_on()
        except (KafkaError, OSError) as error:
            service.health.waiting_for(BROKER)
            _log.warning("follow_interrupted", topic=topic.name, error=type(error).__name__)
            await asyncio.sleep(1.0)
        finally:
            await consumer.stop()


class _Follower:
    def __init__(
        self,
        topic: Topic,
        event_type: type[E],
        apply: Callable[[Delivery[E]], Awaitable[bool]],
        service: Service,
        publisher: Publisher,
        consumer: AIOKafkaConsumer,
        state: Callable[[E], str] | None,
        remedy: str,
    ) -> None:
        self._topic = topic
        self._event_type = event_type
        self._apply = apply
        self._service = service
        self._publisher = publisher
        self._consumer = consumer
        self._state = state
        self._remedy = remedy

    async def catch_up(self, *, every: bool) -> None:
        partitions = [TopicPartition(self._topic.name, number) for number in range(self._topic.partitions)]
        self._consumer.assign(partitions)
        ends = await self._consumer.end_offsets(partitions)
        states: dict[str | bytes | None, list[ConsumerRecord]] = {}
        while not self._service.stopping.is_set() and await self._behind(ends):
            for record in await self._poll():
                if every:
                    await self._take(record)
                else:
                    states.setdefault(self._part(record), []).append(record)
        for records in states.values():
            # A bad event, or a foreign one, leaves the state as it was: the one before it counts.
            for record in reversed(records):
                if await self._take(record):
                    break

    async def go_on(self) -> None:
        while not self._service.stopping.is_set():
            for record in await self._poll():
                await self._take(record)

    async def _behind(self, ends: dict[TopicPartition, int]) -> bool:
        return any([await self._consumer.position(part) < end for part, end in ends.items()])

    async def _poll(self) -> list[ConsumerRecord]:
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
        return [record for records in batches.values() for record in records]

    def _part(self, record: ConsumerRecord) -> str | bytes | None:
        """Return which part of the state a record is for; what cannot be read is for none."""
        if self._state is None:
            return bytes(record.key) if record.key is not None else None
        try:
            return self._state(decode(self._event_type, record.value))
        except FetalMLOpsError:
            return None

    async def _take(self, record: ConsumerRecord) -> bool:
        """Take an event into the state; return whether it is part of it."""
        raw = Record(record.topic, record.partition, record.offset, record.key, record.value, list(record.headers))
        try:
            envelope = Envelope.from_headers(raw.headers)
            envelope.require(self._topic.name)
            taken = await self._apply(Delivery(raw, envelope, decode(self._event_type, raw.value)))
            self._service.health.event_handled()
        except FetalMLOpsError as error:
            _log.exception("event_refused", topic=self._topic.name, offset=record.offset)
            await self._alarm(raw, error)
            return False
        return taken

    async def _alarm(self, record: Record, error: FetalMLOpsError) -> None:
        now = round(time.time() * 1000)
        process = self._service.name
        alarm = AlarmRaised(
            process=process,
            what=f"An event of {record.topic} (partition {record.partition}, offset {record.offset}) was refused: {error}",
            severity=Severity.CRITICAL,
            since=now,
            remedy=self._remedy,
        )
        identity = event_id(process, "alarm", [record.topic, str(record.partition), str(record.offset)])
        envelope = Envelope(id=identity, type=ALARM_RAISED.name, source=f"fetalmlops/{process}", time_ms=now)
        await self._publisher.publish(ALARM_RAISED, process, envelope, alarm)
