"""Whose the joules of a machine are: its idle power apart, and the rest by processor time.

A machine takes power when nothing runs on it. What a counter shows above that is work, and each process has as much of it
as it had of the machine's busy processor time. Without a counter, work is processor time times the power that a busy core
takes beyond an idle one. Either way a call costs its processor seconds times a rate, so both are attributed alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fetalmlops.domain.contracts.planes import EnergyMethod

__all__ = [
    "JOULES_PER_KWH",
    "Cost",
    "Rate",
    "Rates",
    "Share",
    "Split",
    "Window",
    "counted",
    "split",
]

JOULES_PER_KWH: Final = 3.6e6
"""Joules of a kilowatt-hour."""

_LEAST_BUSY: Final = 0.01
"""Busy share of a core below which a window says nothing about the power of a busy one."""


class Share(StrEnum):
    """What joules are for."""

    WORK = "work"
    IDLE = "idle"
    """What the machine takes when nothing runs on it."""


@dataclass(frozen=True)
class Cost:
    """Joules, how they are known, and the counter or model that they are from."""

    joules: float
    method: EnergyMethod
    source: str


@dataclass(frozen=True)
class Rate:
    """What a busy second costs beyond an idle one.

    Parameters
    ----------
    watts
        Joules a second.
    method, source
        How it is known, and the counter or model that it is from.
    """

    watts: float
    method: EnergyMethod
    source: str


@dataclass(frozen=True)
class Rates:
    """The rates of a process.

    Parameters
    ----------
    processor
        Of a second of processor time.
    accelerator
        Of a second in which the engine runs on an accelerator; None where it has none, or none with a counter.

    Examples
    --------
    >>> rates = Rates(Rate(4.0, EnergyMethod.MODELLED, "a model"), Rate(300.0, EnergyMethod.MEASURED, "a counter"))
    >>> rates.cost(0.5, 0.01)
    Cost(joules=5.0, method=<EnergyMethod.MODELLED: 'modelled'>, source='a model; a counter')
    """

    processor: Rate
    accelerator: Rate | None = None

    def cost(self, cpu_s: float, run_s: float = 0.0) -> Cost:
        """Return the cost of processor seconds and of seconds of the engine; measured only if all of it is."""
        parts = [(cpu_s, self.processor)]
        if self.accelerator:
            parts.append((run_s, self.accelerator))
        measured = all(rate.method is EnergyMethod.MEASURED for _, rate in parts)
        return Cost(
            sum(seconds * rate.watts for seconds, rate in parts),
            EnergyMethod.MEASURED if measured else EnergyMethod.MODELLED,
            "; ".join(rate.source for _, rate in parts),
        )


@dataclass(frozen=True)
class Window:
    """What was read over a stretch of time.

    Parameters
    ----------
    seconds
        Its length.
    joules
        What the counter counted.
    busy_s
        Busy seconds of all that it counts for: processor seconds of the machine, say.
    own_s
        Those of the process.
    """

    seconds: float
    joules: float
    busy_s: float
    own_s: float


@dataclass(frozen=True)
class Split:
    """A window shared out.

    Parameters
    ----------
    own_work
        Joules of the process's work.
    idle
        Joules that the machine would have taken idle.
    watts
        Joules of a busy second; None if the window was too quiet to tell.
    """

    own_work: float
    idle: float
    watts: float | None


def split(window: Window, idle_watts: float) -> Split:
    """Share a window out.

    Parameters
    ----------
    window
        The window.
    idle_watts
        Power of the idle machine; of a window that took less, all is idle.

    Examples
    --------
    Ten seconds at 30 W, 10 W of which are idle; of four busy seconds one was ours:

    >>> split(Window(seconds=10, joules=300, busy_s=4, own_s=1), idle_watts=10)
    Split(own_work=50.0, idle=100, watts=50.0)
    """
    idle = min(idle_watts * window.seconds, window.joules)
    work = window.joules - idle
    # The two clocks are not read at the same instant: a process never has more than all.
    busy = max(window.busy_s, window.own_s)
    if busy < _LEAST_BUSY * window.seconds:
        return Split(work * window.own_s / busy if busy else 0.0, idle, None)
    return Split(work * window.own_s / busy, idle, work / busy)


def counted(before: int, after: int, limit: int) -> int:
    """Return what a counter counted between two readings, of which the later may have begun again from 0.

    Parameters
    ----------
    before, after
        The readings.
    limit
        Highest value before it begins again; 0 for a counter that never does.

    Examples
    --------
    >>> counted(10, 25, 100), counted(90, 5, 100)
    (15, 16)
    """
    if after >= before:
        return after - before
    # One that fell without reaching its limit was reset: it has counted at least what it shows.
    return after + (limit - before + 1 if limit >= before else 0)
