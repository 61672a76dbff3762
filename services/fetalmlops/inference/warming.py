"""Warming: an engine prepares itself at the first run of each batch size, which no call should wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from fetalmlops.domain.models.engine import Engine
    from fetalmlops.domain.models.manifest import InputSpec

__all__ = ["batch_sizes", "warm"]

_EACH_UP_TO: Final = 8


def batch_sizes(max_batch: int) -> list[int]:
    """Return the batch sizes to warm: all small ones, which light load makes, then each double, and the largest.

    Examples
    --------
    >>> batch_sizes(20)
    [1, 2, 3, 4, 5, 6, 7, 8, 16, 20]
    """
    small = range(1, min(_EACH_UP_TO, max_batch) + 1)
    doubles = (1 << power for power in range(max_batch.bit_length()))
    return sorted({*small, *doubles, max_batch})


def warm(engine: Engine, spec: InputSpec, max_batch: int) -> float:
    """Run an engine once with each batch size that will be common.

    Parameters
    ----------
    engine
        The engine.
    spec
        Input of its network.
    max_batch
        Most frames in one run.

    Returns
    -------
    float
        Seconds that a frame takes in a full batch, once warm.
    """
    frames = np.zeros((max_batch, spec.rows, spec.columns), np.float32)
    for size in batch_sizes(max_batch):
        engine.infer(frames[:size])
    started = time.perf_counter()
    engine.infer(frames)
    return (time.perf_counter() - started) / max_batch
