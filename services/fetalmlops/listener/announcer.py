"""Announcements: events on their way to the broker, off the network path.

An instance is durable before its announcement is offered, so nothing depends on one: while the broker is away a bounded
number waits, what does not fit is dropped, and the sweep brings it again.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from fetalmlops.listener import metrics
from fetalmlops.platform.bus import kafka_python_options
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.contracts.envelope import Headers
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["Announcement", "Announcer"]

BROKER = "broker"
"""Name of the broker as a dependency."""

CAPACITY = 10_000
"""Announcements that may wait for the broker: about 20 MB."""

_MAX_BLOCK_MS = 5_000
_DELIVERY_MS = 120_000
_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
_log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Announcement:
    """One event to publish.

    Parameters
    ----------
    topic, key, value, headers
        The record.
    made_ms
        When it was made, milliseconds since the epoch.
    acknowledged
        Called once the broker has it.
    """

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    made_ms: int = field(default_factory=lambda: round(time.time() * 1000))
    acknowledged: Callable[[], None] | None = None


class Announcer:
    """Publishes announcements in the order they come, at least once, from a thread of its own.

    Parameters
    ----------
    kafka
        The broker.
    health
        Where to say that the broker is waited for.
    capacity
        Announcements that may wait.
    """

    def __init__(self, kafka: KafkaSettings, health: Health, *, capacity: int = CAPACITY) -> None:
        self._kafka = kafka
        self._health = health
        self._capacity = capacity
        self._queue: queue.SimpleQueue[Announcement | None] = queue.SimpleQueue()
        self._waiting: dict[Announcement, None] = {}
        self._room = threading.Condition()
        self._stopping = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    @property
    def failures(self) -> int:
        """How many announcements were given up since the start, for the sweep to notice."""
        return self._failures

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def offer(self, announcement: Announcement) -> bool:
        """Take an announcement without waiting; return False, and drop it, if too many wait already."""
        with self._room:
            if len(self._waiting) >= self._capacity:
                self._give_up("dropped")
                return False
            self._take(announcement)
        return True

    def put(self, announcement: Announcement, give_up: threading.Event) -> bool:
        """Take an announcement as soon as there is room; return False if `give_up` was set before."""
        with self._room:
            while len(self._waiting) >= self._capacity:
                if give_up.is_set():
                    return False
                self._room.wait(0.2)
            self._take(announcement)
        return True

    def oldest_ms(self) -> int | None:
        """Return when the oldest announcement that waits was made; None if none waits."""
        with self._room:
            return min((item.made_ms for item in self._waiting), default=None)

    def stop(self, timeout_s: float) -> int:
        """Publish what waits, for at most `timeout_s` seconds; return how many are left."""
        deadline = time.monotonic() + timeout_s
        with self._room:
            while self._waiting and time.monotonic() < deadline:
                self._room.wait(0.05)
            left = len(self._waiting)
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout=_MAX_BLOCK_MS / 1000)
        return left

    def _take(self, announcement: Announcement) -> None:
        self._waiting[announcement] = None
        metrics.ANNOUNCEMENTS_WAITING.set(len(self._waiting))
        self._queue.put(announcement)

    def _give_up(self, outcome: str) -> None:
        self._failures += 1
        metrics.ANNOUNCEMENTS.labels(outcome).inc()

    def _run(self) -> None:
        producer = None
        while not self._stopping.is_set():
            announcement = self._queue.get()
            producer = producer or self._connect()
            if announcement is None or producer is None:
                break
            self._send(producer, announcement)
        if producer is not None:
            producer.close(timeout=1)

    def _connect(self) -> KafkaProducer | None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                producer = KafkaProducer(**_producer_options(self._kafka))
            except (KafkaError, OSError) as error:
                self._health.waiting_for(BROKER)
                _log.warning("broker_away", error=type(error).__name__)
                self._stopping.wait(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
                attempt += 1
            else:
                self._health.served_by(BROKER)
                return producer
        return None

    def _send(self, producer: KafkaProducer, announcement: Announcement) -> None:
        try:
            future = producer.send(
                announcement.topic, announcement.value, announcement.key, headers=announcement.headers
            )
        except (KafkaError, OSError, ValueError) as error:
            self._failed(announcement, error)
            return
        future.add_callback(partial(self._acknowledged, announcement))
        future.add_errback(partial(self._failed, announcement))

    def _acknowledged(self, announcement: Announcement, _record: Any) -> None:
        metrics.ANNOUNCEMENTS.labels("published").inc()
        self._health.served_by(BROKER)
        if announcement.acknowledged is not None:
            announcement.acknowledged()
        self._forget(announcement)

    def _failed(self, announcement: Announcement, error: BaseException) -> None:
        self._give_up("failed")
        self._health.waiting_for(BROKER)
        _log.warning("announcement_failed", topic=announcement.topic, error=type(error).__name__)
        self._forget(announcement)

    def _forget(self, announcement: Announcement) -> None:
        with self._room:
            self._waiting.pop(announcement, None)
            metrics.ANNOUNCEMENTS_WAITING.set(len(self._waiting))
            self._room.notify_all()


def _producer_options(kafka: KafkaSettings) -> dict[str, Any]:
    return {
        **kafka_python_options(kafka),
        "client_id": "fetalmlops-listener",
        "acks": "all",
        "enable_idempotence": True,
        "max_block_ms": _MAX_BLOCK_MS,
        "delivery_timeout_ms": _DELIVERY_MS,
        "bootstrap_timeout_ms": _MAX_BLOCK_MS,
        "metrics_enabled": False,
        "allow_auto_create_topics": False,
    }
