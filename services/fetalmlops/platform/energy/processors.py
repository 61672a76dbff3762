"""Processor time: this process's with its sandboxed children, and the machine's."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

import psutil

__all__ = ["ProcessorTime", "Processors", "usable_processors"]

_CHILD: Final = "fetalmlops.platform.sandbox.child"
_IDLE: Final = ("idle", "iowait", "steal", "guest", "guest_nice")
"""What is not work of this machine's processors; guests' time is in that of users already."""


@dataclass(frozen=True)
class ProcessorTime:
    """A reading; its differences count.

    Parameters
    ----------
    seconds
        Monotonic time.
    busy_s
        Busy seconds of all processors of the machine.
    own_s
        Processor seconds of the process and its children.
    """

    seconds: float
    busy_s: float
    own_s: float


class Processors:
    """Reads the processor time of this process.

    Children that decode or look for text count as the process's own. What one has used since the last reading is lost when it
    ends; other children count for themselves.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._children: dict[psutil.Process, float] = {}
        self._ended_s = 0.0

    def read(self) -> ProcessorTime:
        """Return the times now."""
        times = psutil.cpu_times()
        busy = sum(seconds for name, seconds in times._asdict().items() if name not in _IDLE)
        return ProcessorTime(time.monotonic(), busy, time.process_time() + self._of_children())

    def _of_children(self) -> float:
        now: dict[psutil.Process, float] = {}
        for child in self._process.children():
            try:
                if child in self._children or _CHILD in child.cmdline():
                    used = child.cpu_times()
                    now[child] = used.user + used.system
            except psutil.Error:
                continue
        self._ended_s += sum(used for child, used in self._children.items() if child not in now)
        self._children = now
        return self._ended_s + sum(now.values())


def usable_processors() -> int:
    """Return how many logical processors this process may use."""
    return len(os.sched_getaffinity(0))
