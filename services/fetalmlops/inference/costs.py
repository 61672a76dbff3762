"""What a call has cost: waiting, the engine's runs, processor time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Spent", "timed"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Spent:
    """What a call has cost up to now; the parts of it that it shares with others in proportion to its frames.

    Parameters
    ----------
    cpu_s
        Processor time of preparing and of the engine.
    preparation_s
        Time of preparing.
    queue_s
        Longest time that frames of it have waited for the engine.
    engine_s
        Its part of the time in which the engine ran.
    run_s
        Time of the longest run that it was in.
    batch_frames
        Frames of all calls in the largest run that it was in.
    """

    cpu_s: float = 0.0
    preparation_s: float = 0.0
    queue_s: float = 0.0
    engine_s: float = 0.0
    run_s: float = 0.0
    batch_frames: int = 0

    def add_run(self, frames: int, of: int, *, waited_s: float, run_s: float, cpu_s: float) -> None:
        """Add a run of the engine on `of` frames, of which `frames` were the call's."""
        self.cpu_s += cpu_s * frames / of
        self.engine_s += run_s * frames / of
        self.queue_s = max(self.queue_s, waited_s)
        self.run_s = max(self.run_s, run_s)
        self.batch_frames = max(self.batch_frames, of)

    def attributes(self) -> dict[str, int | float]:
        """Return it as attributes of the call's span."""
        return {
            "fetalmlops.preparation_ms": round(self.preparation_s * 1000, 3),
            "fetalmlops.queue.wait_ms": round(self.queue_s * 1000, 3),
            "fetalmlops.engine.run_ms": round(self.run_s * 1000, 3),
            "fetalmlops.batch.frames": self.batch_frames,
        }


def timed(
    function: Callable[P, R], clock: Callable[[], float] = time.thread_time
) -> Callable[P, tuple[R, float, float]]:
    """Return a function that also tells the seconds by `clock` and by the wall that it took in its thread."""

    def call(*args: P.args, **kwargs: P.kwargs) -> tuple[R, float, float]:
        used, begun = clock(), time.perf_counter()
        result = function(*args, **kwargs)
        return result, clock() - used, time.perf_counter() - begun

    return call
