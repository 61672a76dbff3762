"""Which images an epoch shows."""

from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.training.loading.sampling import image_weights, order
from fetalmlops.training.recipe import Balance

from .conftest import entry


def test_a_class_of_four_times_the_images_is_drawn_twice_as_often() -> None:
    images = [entry(n, Plane.OTHER, f"p{n}") for n in range(80)] + [entry(n, Plane.FEMUR, f"q{n}") for n in range(20)]
    weights = image_weights(images, Balance.SQRT)
    assert weights[:80].sum() / weights[80:].sum() == pytest.approx(2)
    assert weights.sum() == pytest.approx(1)


def test_so_is_a_patient_within_a_class() -> None:
    images = [entry(n, patient="many") for n in range(16)] + [entry(n, patient="few") for n in range(4)]
    weights = image_weights(images, Balance.SQRT)
    assert weights[:16].sum() / weights[16:].sum() == pytest.approx(2)
    assert set(image_weights(images, Balance.NONE)) == {1 / 20}


def test_the_draw_follows_the_weights_and_repeats_itself() -> None:
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = order(weights, 200, seed=3, epoch=5)
    np.testing.assert_allclose(np.bincount(drawn, minlength=4), 200 * weights, atol=1)
    np.testing.assert_array_equal(drawn, order(weights, 200, seed=3, epoch=5))
    assert not np.array_equal(drawn, order(weights, 200, seed=3, epoch=6))
    assert not np.array_equal(drawn, order(weights, 200, seed=4, epoch=5))


def test_without_balance_each_image_comes_once() -> None:
    assert sorted(order(np.full(37, 1 / 37), 37, seed=0, epoch=0)) == list(range(37))
