"""The meter of a process: what it has cost since it was last asked, and the rates at which a call is costed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.attribution import Cost, Rate, Rates, Share, Window, split
from fetalmlops.platform.energy.counters import CounterError, NvmlCounter, RaplCounter
from fetalmlops.platform.energy.processors import Processors, usable_processors
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.platform.energy.counters import EnergyCounter
    from fetalmlops.platform.energy.processors import ProcessorTime
    from fetalmlops.platform.settings import EnergySettings

__all__ = ["Meter", "Sample", "modelled_rate"]

_log = get_logger(__name__)


@dataclass(frozen=True)
class Sample:
    """What a process has cost since the sample before.

    Parameters
    ----------
    seconds
        Time since then.
    cpu_s
        Processor seconds of the process since then.
    costs
        Joules by what they are for: the process's work, and the idle machine's.
    images, frames
        What was served.
    """

    seconds: float
    cpu_s: float
    costs: list[tuple[Share, Cost]] = field(default_factory=list)
    images: int = 0
    frames: int = 0


class Meter:
    """Meters this process. Costing and counting may come from any thread, sampling from one.

    Parameters
    ----------
    settings
        The model, and where counters are.
    read
        Reads the processor time.
    """

    def __init__(self, settings: EnergySettings, read: Callable[[], ProcessorTime] | None = None) -> None:
        self._read = read or Processors().read
        self._idle_per_core = settings.idle_watts_per_core
        self._model = modelled_rate(settings)
        self._rates = Rates(self._model)
        self._lock = threading.Lock()
        self._run_s, self._images, self._frames = 0.0, 0, 0
        self._processor = _Counted.processor(settings)
        self._accelerator: _Counted | None = None
        self._last = self._read()

    @property
    def rates(self) -> Rates:
        """What a second costs now."""
        return self._rates

    def use_accelerator(self, counter: EnergyCounter) -> None:
        """Count an accelerator on which the engine runs, once; all its work is taken to be this process's."""
        with self._lock:
            if self._accelerator is None:
                self._accelerator = _Counted(counter, 0.0)

    def use_gpu(self) -> None:
        """Count the first GPU that this process may use, as `use_accelerator`; where it has no counter the log says so."""
        with self._lock:
            known = self._accelerator is not None
        if not known:
            try:
                self.use_accelerator(NvmlCounter())
            except CounterError as error:
                _log.warning("energy_of_gpu_not_counted", reason=str(error))

    def count(self, *, images: int = 0, frames: int = 0, run_s: float = 0.0) -> None:
        """Count what was served, and the seconds in which the engine ran."""
        with self._lock:
            self._images += images
            self._frames += frames
            self._run_s += run_s

    def sample(self) -> Sample:
        """Return what this process has cost since the sample before; the first one counts from the making of the meter."""
        last, self._last = self._last, self._read()
        seconds, own = self._last.seconds - last.seconds, max(0.0, self._last.own_s - last.own_s)
        busy = max(0.0, self._last.busy_s - last.busy_s)
        with self._lock:
            run_s, images, frames = self._run_s, self._images, self._frames
            self._run_s, self._images, self._frames = 0.0, 0, 0
            accelerator = self._accelerator
        costs, rate = self._processor_costs(seconds, busy, own)
        more, run_rate = accelerator.costs(seconds, run_s, run_s) if accelerator else ([], None)
        self._rates = Rates(rate or self._rates.processor, run_rate or self._rates.accelerator)
        return Sample(seconds, own, costs + more, images, frames)

    def _processor_costs(self, seconds: float, busy: float, own: float) -> tuple[list[tuple[Share, Cost]], Rate | None]:
        if self._processor:
            try:
                return self._processor.costs(seconds, busy, own)
            except CounterError as error:
                _log.warning("energy_counter_lost", error=str(error))
                self._processor = None
        model = self._model
        idle = Cost(self._idle_per_core * usable_processors() * seconds, EnergyMethod.MODELLED, model.source)
        return [(Share.WORK, Cost(own * model.watts, EnergyMethod.MODELLED, model.source)), (Share.IDLE, idle)], model


def modelled_rate(settings: EnergySettings) -> Rate:
    """Return what a second of processor time costs where no counter tells."""
    busy, idle = settings.watts_per_core, settings.idle_watts_per_core
    source = f"{busy:g} W a busy core, {idle:g} W an idle one ({settings.watts_source})"
    return Rate(max(0.0, busy - idle), EnergyMethod.MODELLED, source)


class _Counted:
    """A counter, and the least power that it has shown."""

    def __init__(self, counter: EnergyCounter, idle_watts: float) -> None:
        self._counter = counter
        self._set_watts = idle_watts
        self._least_watts: float | None = None
        self._last = counter.joules()

    @classmethod
    def processor(cls, settings: EnergySettings) -> _Counted | None:
        try:
            return cls(RaplCounter(settings.powercap), settings.idle_watts)
        except CounterError as error:
            _log.info("energy_modelled", reason=str(error))
            return None

    def costs(self, seconds: float, busy: float, own: float) -> tuple[list[tuple[Share, Cost]], Rate | None]:
        """Return the costs of a stretch of time, and the rate that it shows, if it shows one."""
        last, self._last = self._last, self._counter.joules()
        joules = self._last - last
        if seconds <= 0:
            return [], None
        power = joules / seconds
        self._least_watts = power if self._least_watts is None else min(self._least_watts, power)
        shared = split(Window(seconds, joules, busy, own), self._set_watts or self._least_watts)
        method, source = EnergyMethod.MEASURED, self._counter.source
        costs = [(Share.WORK, Cost(shared.own_work, method, source)), (Share.IDLE, Cost(shared.idle, method, source))]
        return costs, Rate(shared.watts, method, source) if shared.watts else None
