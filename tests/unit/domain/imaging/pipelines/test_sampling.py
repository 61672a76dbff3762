from __future__ import annotations

import itertools

import numpy as np
import pytest

from fetalmlops.domain.imaging.pipelines.sampling import Spread, sample


@pytest.mark.parametrize(("total", "most", "spread"), itertools.product([1, 7, 64, 65, 999], [1, 7, 64], Spread))
def test_sampling_is_bounded_increasing_and_even(total: int, most: int, spread: Spread) -> None:
    numbers = sample(total, most, spread)
    assert len(numbers) == min(total, most)
    assert numbers[0] >= 1
    assert numbers[-1] <= total
    steps = np.diff(numbers)
    assert not len(steps) or (steps.min() >= 1 and np.ptp(steps) <= 1)
