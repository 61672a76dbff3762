from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalmlops.domain.models.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)


def overconfident(temperature: float, images: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large, with labels drawn from the true probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (images, 6))
    labels = np.array([rng.choice(6, p=each) for each in softmax(logits)])
    return logits * temperature, labels


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(true: float) -> None:
    logits, labels = overconfident(true)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.08)


def test_calibration_lowers_error_and_loss() -> None:
    logits, labels = overconfident(3.0)
    before, after = softmax(logits), softmax(logits, fit_temperature(logits, labels))
    assert expected_calibration_error(after, labels) < 0.03 < expected_calibration_error(before, labels)
    assert negative_log_likelihood(after, labels) < negative_log_likelihood(before, labels)


def test_all_wrong_still_gives_a_finite_temperature() -> None:
    assert 19 < fit_temperature(np.array([[4.0, 0.0]] * 10), np.ones(10, np.int64)) < 21


@pytest.mark.parametrize("images", [5, 180])
def test_a_faultless_result_is_not_taken_for_certainty(images: int) -> None:
    logits = np.random.default_rng(0).uniform(1, 8, (images, 1)) * [1.0, 0.0]
    confidence = softmax(logits, fit_temperature(logits, np.zeros(images, np.int64))).max(axis=1)
    assert confidence.mean() == pytest.approx((images + 1) / (images + 2), abs=1e-6)
    assert len(np.unique(confidence)) == images


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=8), st.floats(0.05, 20))
def test_probabilities_are_finite_and_sum_to_one(logits: list[float], temperature: float) -> None:
    probabilities = softmax(np.array([logits]), temperature)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


def test_the_error_of_a_known_miscalibration_is_exact() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10)
    labels = np.array([0] * 6 + [1] * 4)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.3)
