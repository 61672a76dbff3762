"""The life of a process's meter: sampled every few seconds, written to the ledger now and then, and at the end."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, Self

from msgspec.structs import replace

from fetalmlops.domain.energy.attribution import Share
from fetalmlops.domain.energy.entries import MACHINE, Entry
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.energy.ledger import EnergyLedger, machine_id
from fetalmlops.platform.energy.meter import Meter
from fetalmlops.platform.energy.metrics import JOULES
from fetalmlops.platform.keyvalue import open_valkey_blocking
from fetalmlops.platform.settings import EnergySettings
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from fetalmlops.platform.energy.meter import Sample
    from fetalmlops.platform.settings import Settings

__all__ = ["EnergyRecorder", "process_meter"]

_SAMPLE_S: Final = 10.0
_PATIENCE_S: Final = 3.0
_CLAIMED_INTERVALS: Final = 3
_log = get_logger(__name__)
_meter: Meter | None = None


def process_meter() -> Meter:
    """Return the meter of this process: that of its recorder; one of the default model where nothing is recorded."""
    global _meter  # noqa: PLW0603 - a process has one meter as it has one processor time
    if _meter is None:
        _meter = Meter(EnergySettings())
    return _meter


class EnergyRecorder:
    """Samples the meter of a process in a thread, and keeps the ledger.

    What Valkey does not take is kept and written later. What is not written when the process dies is lost: of a killed one at
    most what came after its last entry.

    Parameters
    ----------
    process
        Name of the process.
    settings
        Its settings.

    Raises
    ------
    SettingsError
        If a file of ``valkey.tls`` cannot be read.
    """

    def __init__(self, process: str, settings: Settings) -> None:
        self._process = process
        self._interval_s = settings.energy.record_interval_s
        self._ledger = EnergyLedger(open_valkey_blocking(settings))
        self._meter = Meter(settings.energy)
        self._machine, self._run = machine_id(), uuid.uuid4().hex
        self._days: dict[date, dict[str, Entry]] = {}
        self._idle: dict[str, bool] = {}
        self._away = self._unwritten = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="energy", daemon=True)

    def __enter__(self) -> Self:
        """Begin to sample; from now on it is the process's meter that is sampled."""
        global _meter  # noqa: PLW0603 - see above
        _meter = self._meter
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, if Valkey takes it soon."""
        global _meter  # noqa: PLW0603 - see above
        _meter = None
        self._stopping.set()
        self._thread.join(_PATIENCE_S)
        if self._unwritten:
            _log.warning("energy_not_recorded", reason="Valkey did not take the last entry in time")

    def _live(self) -> None:
        next_entry = 0.0
        while not self._stopping.wait(min(_SAMPLE_S, self._interval_s)):
            self._take(self._meter.sample())
            if time.monotonic() >= next_entry:
                next_entry = time.monotonic() + self._interval_s
                self._write()
        self._take(self._meter.sample())
        self._write()

    def _take(self, sample: Sample) -> None:
        """Add a sample to the totals of its day; of the idle machine only what is ours to count."""
        totals = self._days.setdefault(datetime.now(UTC).date(), {})
        # What was served, and the time that it took, counts once, whatever it is costed by.
        served = {"images": sample.images, "frames": sample.frames}
        cpu_s = sample.cpu_s
        for share, cost in sample.costs:
            entry = Entry(
                process=self._process,
                share=share,
                method=cost.method,
                source=cost.source,
                joules=cost.joules,
                seconds=sample.seconds,
            )
            if share is Share.WORK:
                entry = replace(entry, cpu_s=cpu_s, **served)
                cpu_s, served = 0.0, {}
            elif self._idle.setdefault(cost.source, False):
                entry = replace(entry, process=MACHINE)
            else:
                continue
            JOULES.labels(share, cost.method).inc(cost.joules)
            field = f"{entry.process}:{self._run}:{share}:{cost.method}:{cost.source}"
            totals[field] = totals[field].plus(entry) if field in totals else entry
            self._unwritten = True

    def _write(self) -> None:
        try:
            for day, totals in self._days.items():
                if totals:
                    self._ledger.write(day, totals)
            for source in self._idle:
                claimed_s = _CLAIMED_INTERVALS * max(self._interval_s, _SAMPLE_S)
                self._idle[source] = self._ledger.claim_idle(self._machine, source, self._run, claimed_s)
        except TransientError as error:
            if not self._away:
                _log.warning("energy_waits", error=str(error))
            self._away = True
            return
        self._away = self._unwritten = False
        today = max(self._days, default=None)
        for day in [day for day in self._days if day != today]:
            del self._days[day]
