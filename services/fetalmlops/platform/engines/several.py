"""Several engines as one: as many calls run side by side, for work in which latency does not count."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import Engine, EngineOutput
    from fetalmlops.domain.models.manifest import Precision

__all__ = ["SeveralEngines"]


class SeveralEngines:
    """Engines of the same network, each of which takes one call at a time; a call waits for one that is free.

    Two engines of one thread do about twice the work of one, where one of two threads does less: its layers are too small
    to share. Larger batches gain nothing on a CPU.

    Parameters
    ----------
    make
        Makes one engine.
    count
        How many.
    """

    def __init__(self, make: Callable[[], Engine], count: int) -> None:
        engines = [make() for _ in range(count)]
        self._name, self._precision = engines[0].name, engines[0].precision
        self._free: SimpleQueue[Engine] = SimpleQueue()
        for engine in engines:
            self._free.put(engine)

    @property
    def name(self) -> str:
        """Engine and version."""
        return self._name

    @property
    def precision(self) -> Precision:
        """Arithmetic they run in."""
        return self._precision

    def infer(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run the network; calls may come from several threads at once."""
        engine = self._free.get()
        try:
            return engine.infer(batch)
        finally:
            self._free.put(engine)
