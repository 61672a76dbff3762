from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalmlops.domain.models.explain import frame_map
from fetalmlops.domain.models.manifest import Fit, InputSpec
from fetalmlops.domain.models.prepare import prepare

SPEC = InputSpec(rows=128, columns=160)


@settings(max_examples=30, deadline=None)
@given(st.integers(170, 512), st.integers(170, 512), st.floats(0.15, 0.85), st.floats(0.15, 0.85))
def test_a_bright_spot_of_the_input_is_found_at_its_place_in_the_frame(
    rows: int, columns: int, down: float, across: float
) -> None:
    frame = np.zeros((1, rows, columns), np.uint8)
    y, x = round(down * rows), round(across * columns)
    reach = max(2, min(rows, columns) // 12)
    frame[0, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 255
    batch = prepare(frame, SPEC).batch[0]
    coarse = batch.reshape(32, 4, 40, 4).mean(axis=(1, 3))
    grid = frame_map(np.ascontiguousarray(coarse), rows, columns, SPEC)
    weight = np.maximum(grid - grid.min(), 0) ** 4
    found_y = (weight.sum(axis=1) @ (np.arange(grid.shape[0]) + 0.5)) / weight.sum() / grid.shape[0]
    found_x = (weight.sum(axis=0) @ (np.arange(grid.shape[1]) + 0.5)) / weight.sum() / grid.shape[1]
    assert abs(found_y - (y + 0.5) / rows) < 0.06
    assert abs(found_x - (x + 0.5) / columns) < 0.06


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (16, 512), (512, 16), (300, 400)])
def test_the_grid_covers_the_frame_and_not_the_black_beside_it(rows: int, columns: int) -> None:
    grid = frame_map(np.ones((8, 10), np.float32), rows, columns, SPEC)
    assert grid.min() == grid.max() == 1
    assert grid.dtype == np.float32
    assert max(grid.shape[0] / 32, grid.shape[1] / 40) == 1


def test_a_stretched_frame_has_the_whole_grid() -> None:
    spec = InputSpec(rows=128, columns=160, fit=Fit.STRETCH)
    assert frame_map(np.ones((8, 10), np.float32), 100, 500, spec).shape == (32, 40)
