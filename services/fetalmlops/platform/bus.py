"""Kafka clients as the settings say: options for each library, and a producer that waits for the broker.

Publishing is at least once: every event has an id by which its readers drop repetitions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from fetalmlops.domain.contracts.codec import decode, encode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import Event
from fetalmlops.domain.errors import ContractError, TransientError
from fetalmlops.platform.telemetry import get_logger
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiokafka import ConsumerRecord

    from fetalmlops.domain.contracts.envelope import Headers
    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.settings import KafkaSettings

__all__ = [
    "Publisher",
    "aiokafka_options",
    "kafka_python_options",
    "read_events",
    "read_record",
    "read_topic",
]

E = TypeVar("E", bound=Event)

BROKER = "broker"
"""Name of the broker as a dependency."""

_MAX_RECORD_BYTES = 1 << 20
_log = get_logger(__name__)


def aiokafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the connection options of aiokafka's clients.

    Raises
    ------
    SettingsError
        If a file of ``kafka.tls`` cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": kafka.security_protocol,
        "retry_backoff_ms": 200,
    }
    if kafka.tls.enabled:
        options["ssl_context"] = client_ssl_context(kafka.tls, "kafka.tls")
    if kafka.sasl_mechanism:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return options


def kafka_python_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the connection options of kafka-python's clients; its default back-off resumes 40 s late. Raises as aiokafka's."""
    return {**aiokafka_options(kafka), "reconnect_backoff_max_ms": 1000}


class Publisher:
    """An asynchronous producer that waits for the broker instead of failing.

    Parameters
    ----------
    kafka
        The broker.
    health
        Where to say that the broker is waited for.
    """

    def __init__(self, kafka: KafkaSettings, health: Health) -> None:
        self._kafka = kafka
        self._health = health
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self, *, give_up_s: float | None = None) -> None:
        """Connect, waiting for the broker as `publish` does. Raises as `publish`."""
        try:
            async with asyncio.timeout(give_up_s), self._starting:
                if self._producer is None:
                    self._producer = await self._connected()
        except TimeoutError as error:
            raise _away("to answer", error) from error
        self._health.served_by(BROKER)

    async def _connected(self) -> AIOKafkaProducer:
        delay = 0.2
        while True:
            producer = AIOKafkaProducer(
                **aiokafka_options(self._kafka),
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_request_size=_MAX_RECORD_BYTES,
                request_timeout_ms=30_000,
            )
            try:
                await producer.start()
            except (KafkaError, OSError):
                await producer.stop()
                self._health.waiting_for(BROKER)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            except asyncio.CancelledError:
                await producer.stop()
                raise
            else:
                return producer

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def publish(
        self, topic: Topic, key: str, envelope: Envelope, event: Event, *, give_up_s: float | None = None
    ) -> None:
        """Publish an event and return once the broker has acknowledged it.

        Parameters
        ----------
        topic
            Where to.
        key
            Record key.
        envelope
            Its CloudEvents attributes.
        event
            Its value.
        give_up_s
            Seconds after which to give up; None waits for the broker as long as it takes.

        Raises
        ------
        TransientError
            If `give_up_s` passed.
        """
        await self.publish_raw(topic.name, key.encode(), encode(event), envelope.to_headers(), give_up_s=give_up_s)

    async def publish_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, give_up_s: float | None = None
    ) -> None:
        """Publish a record as it is. Raises as `publish`."""
        try:
            async with asyncio.timeout(give_up_s):
                await self._publish_in_time(topic, key, value, headers)
        except TimeoutError as error:
            self._health.waiting_for(BROKER)
            raise _away(f"to take a record of {topic}", error) from error

    async def _publish_in_time(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        delay = 0.2
        while True:
            await self.start()
            try:
                await self._require().send_and_wait(topic, value, key, headers=headers)
            except (KafkaError, OSError) as error:
                self._health.waiting_for(BROKER)
                _log.warning("publish_failed", topic=topic, error=type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            else:
                self._health.served_by(BROKER)
                return

    def _require(self) -> AIOKafkaProducer:
        if self._producer is None:
            msg = "Expected a started publisher, got a stopped one; call start() first"
            raise RuntimeError(msg)
        return self._producer


async def read_topic(kafka: KafkaSettings, topic: Topic, *, follow: bool = False) -> AsyncIterator[ConsumerRecord]:
    """Yield a topic's records from the beginning, without a consumer group.

    Parameters
    ----------
    kafka
        The broker.
    topic
        What to read.
    follow
        Whether to go on with records as they come; otherwise it ends at the end that it found at its start.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    consumer = AIOKafkaConsumer(**aiokafka_options(kafka), auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        await _started(consumer)
        partitions = [
            TopicPartition(topic.name, number)
            for number in consumer.partitions_for_topic(topic.name) or range(topic.partitions)
        ]
        consumer.assign(partitions)
        begin = await consumer.beginning_offsets(partitions)
        ends = {part: end for part, end in (await consumer.end_offsets(partitions)).items() if end > begin[part]}
        if not ends and not follow:
            return
        async for record in consumer:
            yield record
            part = TopicPartition(record.topic, record.partition)
            if ends and await consumer.position(part) >= ends.get(part, 0):
                ends.pop(part, None)
            if not ends and not follow:
                return
    finally:
        await consumer.stop()


async def read_events(
    kafka: KafkaSettings, topic: Topic, event_type: type[E], *, follow: bool = False
) -> AsyncIterator[tuple[ConsumerRecord, E]]:
    """Yield a topic's records with their events, as `read_topic` does; what breaks the event's contract is passed over."""
    async for record in read_topic(kafka, topic, follow=follow):
        try:
            Envelope.from_headers(record.headers).require(topic.name)
            event = decode(event_type, record.value)
        except ContractError as error:
            _log.warning("event_passed_over", topic=topic.name, offset=record.offset, error=str(error))
            continue
        yield record, event


async def _started(consumer: AIOKafkaConsumer) -> None:
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        raise _away("to answer", error) from error


def _away(what: str, error: Exception) -> TransientError:
    msg = f"Expected the broker {what}, got {type(error).__name__}; check that it runs and the kafka settings"
    return TransientError(msg, dependency=BROKER, everyone=True)


async def read_record(kafka: KafkaSettings, topic: str, partition: int, offset: int) -> ConsumerRecord | None:
    """Return one record, or None if it has been deleted.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    consumer = AIOKafkaConsumer(**aiokafka_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await _started(consumer)
        part = TopicPartition(topic, partition)
        consumer.assign([part])
        if (
            offset < (await consumer.beginning_offsets([part]))[part]
            or offset >= (await consumer.end_offsets([part]))[part]
        ):
            return None
        consumer.seek(part, offset)
        record: ConsumerRecord = await consumer.getone()
        return record if record.offset == offset else None
    finally:
        await consumer.stop()
