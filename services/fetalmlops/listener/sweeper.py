"""The sweep: every stored instance reaches its end, whatever was lost on the way.

Announced again are, each once a passage is complete (see `passage`): everything without a done marker at the start and
after the broker was away; otherwise what is due by its age. Several listeners may sweep one store: each announces an
instance at most once a step, and downstream equal ids are one.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import ObjectMissingError, PermanentError, SettingsError, TransientError
from fetalmlops.listener import metrics
from fetalmlops.listener.offsets import open_offsets
from fetalmlops.listener.passage import Passage, is_due
from fetalmlops.platform.lag import STAGE_INPUTS
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from fetalmlops.listener.announcer import Announcer
    from fetalmlops.listener.backlog import Backlog, Unfinished
    from fetalmlops.listener.passage import TopicOffsets
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.settings import KafkaSettings, ListenerSettings

__all__ = ["Sweeper"]

_POLL_S = 1.0
_GRACE_MS = 2_000
_SHARE = 20
_stages = tuple((group, topic.name) for group, topic in STAGE_INPUTS.items())
_log = get_logger(__name__)


class Sweeper:
    """Announces unfinished instances again, from a thread of its own.

    Parameters
    ----------
    settings
        The listener's settings.
    kafka
        The broker.
    backlog
        The store.
    announcer
        Where events go.
    health
        Where to say which stage is waited for.
    """

    def __init__(
        self, settings: ListenerSettings, kafka: KafkaSettings, backlog: Backlog, announcer: Announcer, health: Health
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._backlog = backlog
        self._announcer = announcer
        self._health = health
        self._stopping = threading.Event()
        self._everything = True
        self._failures = 0
        self._swept_until_ms = 0
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a sweep under way is left where it is."""
        self._stopping.set()
        self._thread.join(timeout=_POLL_S * 10)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with open_offsets(self._kafka) as offsets:
                    self._sweep_forever(offsets)
            except TransientError as error:
                # What was announced may not have arrived: once the broker is back, everything is.
                self._everything = True
                _log.warning("sweep_waits", dependency=error.dependency, error=str(error))
            except Exception:  # noqa: BLE001 - whatever it is, the next sweep may do better
                self._everything = True
                _log.exception("sweep_failed")
            self._stopping.wait(_POLL_S)

    def _sweep_forever(self, offsets: TopicOffsets) -> None:
        while not self._stopping.is_set():
            passage = Passage(_stages, self._horizon_ms())
            while not passage.advance(offsets):
                self._health.note("sweep_waits_for", passage.waiting_for)
                if self._stopping.wait(_POLL_S):
                    return
            self._health.note("sweep_waits_for", None)
            took_s = self._sweep(passage.horizon_ms)
            # Listeners that sweep one store do not keep step, and a large store takes a small share of a core.
            pause_s = max(self._settings.sweep_interval_s * random.uniform(0.8, 1.2), took_s * _SHARE)
            self._stopping.wait(pause_s)

    def _horizon_ms(self) -> int:
        """Return a moment before which every stored instance was announced or given up."""
        if self._announcer.failures != self._failures:
            self._failures = self._announcer.failures
            self._everything = True
        waiting_ms = self._announcer.oldest_ms()
        now_ms = round(time.time() * 1000)
        return min(now_ms, waiting_ms or now_ms) - _GRACE_MS

    def _sweep(self, horizon_ms: int) -> float:
        """Announce what is to be announced; return how long it took to find, in seconds."""
        everything, self._everything = self._everything, False
        begun = time.monotonic()
        found = list(self._backlog.unfinished())
        took_s = time.monotonic() - begun
        due = [item for item in found if self._is_due(item, horizon_ms, everything=everything)]
        metrics.SWEEP_UNFINISHED.set(len(found))
        if due:
            _log.info("announcing_again", instances=len(due), unfinished=len(found), everything=everything)
        for item in due:
            if self._stopping.is_set():
                return took_s
            self._announce(item)
        self._swept_until_ms = horizon_ms
        metrics.SWEEP_LAST.set_to_current_time()
        return took_s

    def _is_due(self, item: Unfinished, horizon_ms: int, *, everything: bool) -> bool:
        if item.stored_ms > horizon_ms:
            return False
        first_ms, last_ms = self._settings.sweep_first_s * 1000, self._settings.sweep_last_s * 1000
        return everything or is_due(item.stored_ms, self._swept_until_ms, horizon_ms, first_ms, last_ms)

    def _announce(self, item: Unfinished) -> None:
        try:
            if not self._backlog.is_done(item):
                self._announcer.put(self._backlog.announce(item), self._stopping)
                metrics.ANNOUNCEMENTS.labels("swept").inc()
        except ObjectMissingError:
            return
        except SettingsError as error:
            _log.error("foreign_instance", why=str(error), origin=item.origin)
        except PermanentError as error:
            self._refuse(item, error)

    def _refuse(self, item: Unfinished, error: PermanentError) -> None:
        _log.error("instance_damaged", reason=error.reason, why=str(error), origin=item.origin)
        for entry in self._backlog.refuse(item, error):
            self._announcer.put(entry, self._stopping)
