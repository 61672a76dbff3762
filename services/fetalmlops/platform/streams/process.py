"""Process mode: a group of workers shares a topic; each event is acknowledged once all that follows from it is durable.

The engine is faust: one agent actor a worker, whose loop body only starts work. It is not seen outside this module.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeVar

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from yarl import URL

from fetalmlops.domain.contracts.events import Event
from fetalmlops.platform.bus import BROKER, Publisher, aiokafka_options
from fetalmlops.platform.service import EXIT_RETRY
from fetalmlops.platform.streams.attempts import Attempts
from fetalmlops.platform.streams.stage import Record
from fetalmlops.platform.streams.window import OrderedAcks, Window
from fetalmlops.platform.streams.worker import Worker
from fetalmlops.platform.telemetry import get_logger
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.settings import KafkaSettings
    from fetalmlops.platform.streams.stage import Stage

__all__ = ["process"]

E = TypeVar("E", bound=Event)

_HEARTBEATS_PER_SESSION = 6
_DRAIN_S = 15.0
_log = get_logger(__name__)


async def process(stage: Stage[E], service: Service, objects: ObjectStore, valkey: Redis) -> None:
    """Run a stage until the process is asked to stop.

    Waits for the broker and for the source topic as long as it takes. On a stop, what is in work is finished.

    Parameters
    ----------
    stage
        What to run.
    service
        The process that runs it.
    objects
        Store for done markers and long quarantined values.
    valkey
        Connection for the attempts.
    """
    health = service.health
    health.waiting_for("partitions")
    service.started()
    if not await _source_is_there(stage, service):
        return
    publisher = Publisher(service.settings.kafka, health)
    await publisher.start()
    worker = Worker(stage, service, publisher, Attempts(valkey, stage.name), objects)
    intake = _Intake(stage, service, worker)
    app = _app(stage, service, intake)
    try:
        await app.start()
        await service.stopping.wait()
        # What the engine hands out from here on is not taken, so it would wait for its acknowledgement for ever.
        app.conf.stream_wait_empty = False
        await intake.stop()
    finally:
        await app.stop()
        await publisher.stop()


class _Intake:
    """Takes events from the engine, starts their work, and acknowledges them in order."""

    def __init__(self, stage: Stage[Any], service: Service, worker: Worker[Any]) -> None:
        self._stage = stage
        self._service = service
        self._worker = worker
        settings = service.settings.stream
        self._window = Window(settings.window, settings.window_bytes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._keys: dict[bytes, asyncio.Task[None]] = {}

    async def run(self, stream: faust.StreamT[bytes]) -> None:
        """Be the body of the agent. Nothing may leave it: the engine would acknowledge the event and lose it."""
        stream.enable_acks = False
        acks: OrderedAcks[faust.EventT[bytes]] = OrderedAcks(stream.ack)
        try:
            async for event in stream.events():
                if self._service.stopping.is_set():
                    continue
                await self._take(event, acks)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - see above
            _log.exception("intake_failed", stage=self._stage.name)
            os._exit(EXIT_RETRY)

    async def stop(self) -> None:
        """Let what is in work finish; what does not in time is redelivered."""
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._window.drained()
        except TimeoutError:
            _log.warning("abandoned", stage=self._stage.name, events=self._window.events)
            os._exit(EXIT_RETRY)

    async def _take(self, event: faust.EventT[bytes], acks: OrderedAcks[faust.EventT[bytes]]) -> None:
        message = event.message
        record = Record(
            message.topic, message.partition, message.offset, message.key, message.value, _headers(message.headers)
        )
        envelope, value, refusal = self._worker.read(record)
        size = self._stage.size(value) if value is not None else 0
        await self._window.enter(size)
        done = acks.deliver(message.tp, event)
        # Events of one instance or one study keep their order; others overtake.
        before = self._keys.get(record.key) if record.key else None

        async def work() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await self._worker.work(record, envelope, value, refusal)
                await done()
            finally:
                await self._window.leave(size)

        task = asyncio.create_task(work())
        self._tasks.add(task)
        if record.key:
            self._keys[record.key] = task
        task.add_done_callback(lambda ended: self._forget(record.key, ended))

    def _forget(self, key: bytes | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if key and self._keys.get(key) is task:
            del self._keys[key]
        if not task.cancelled() and task.exception() is not None:
            _log.error("work_failed", stage=self._stage.name, exc_info=task.exception())
            os._exit(EXIT_RETRY)


def _app(stage: Stage[Any], service: Service, intake: _Intake) -> faust.App:
    kafka, stream = service.settings.kafka, service.settings.stream
    app = faust.App(
        stage.name,
        broker=[URL(f"aiokafka://{server}") for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        broker_session_timeout=stream.session_timeout_s,
        broker_heartbeat_interval=stream.session_timeout_s / _HEARTBEATS_PER_SESSION,
        broker_commit_interval=stream.commit_interval_s,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=stream.instance or None,
        consumer_metadata_max_age_ms=10_000,
        stream_buffer_maxsize=stream.window * 2,
        stream_wait_empty=True,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        autodiscover=False,
        web_enabled=False,
        loghandlers=[],
    )
    # No table is kept, and the file system may be closed to writing.
    app._create_directories = lambda: None  # noqa: SLF001 - the engine has no setting for it
    topic = app.topic(stage.source.name, key_serializer="raw", value_serializer="raw")
    app.agent(topic, name=stage.name, concurrency=1)(intake.run)

    async def assigned(_app: faust.AppT, partitions: set[Any], **_: Any) -> None:
        service.health.note("partitions", len(partitions))
        service.health.served_by("partitions")

    app.on_partitions_assigned.connect(assigned, weak=False)
    return app


def _credentials(kafka: KafkaSettings) -> faust.types.auth.CredentialsT | None:
    context = client_ssl_context(kafka.tls, "kafka.tls") if kafka.tls.enabled else None
    if kafka.sasl_mechanism:
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


async def _source_is_there(stage: Stage[Any], service: Service) -> bool:
    """Wait for the broker and the source topic; the engine finds a topic that appears later only after minutes."""
    delay = 0.2
    while not service.stopping.is_set():
        consumer = AIOKafkaConsumer(**aiokafka_options(service.settings.kafka))
        try:
            await consumer.start()
            if stage.source.name in await consumer.topics():
                service.health.served_by(BROKER)
                service.health.served_by("topic")
                return True
            service.health.served_by(BROKER)
            service.health.waiting_for("topic")
        except (KafkaError, OSError):
            service.health.waiting_for(BROKER)
        finally:
            await consumer.stop()
        await asyncio.sleep(delay)
        delay = min(delay * 2, 2.0)
    return False


def _headers(headers: Any) -> list[tuple[str, bytes]]:
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    return [(name, bytes(value or b"")) for name, value in pairs]
