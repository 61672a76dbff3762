"""Warming runs every number of frames that a run may have."""

from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.models.manifest import InputSpec, Precision
from fetalmlops.inference.warming import batch_sizes, warm


class Counting:
    name, precision = "counting", Precision.F32

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, batch: np.ndarray) -> None:
        self.shapes.append(batch.shape)


@pytest.mark.parametrize("largest", [1, 3, 16, 20])
def test_each_size_runs_once_and_the_largest_again_to_time_it(largest: int) -> None:
    engine = Counting()
    assert warm(engine, InputSpec(rows=5, columns=7), largest) >= 0
    assert engine.shapes == [(size, 5, 7) for size in [*batch_sizes(largest), largest]]
    assert {1, largest} <= {*batch_sizes(largest)}
