"""Intervals draw patients, never images."""

from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.learning.intervals import Resampler, Sampling, summarise


def clustered(seed: int, patients: int = 60, images: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Patients who are mostly all right or all wrong: their images are as one."""
    rng = np.random.default_rng(seed)
    easy = rng.random(patients) < 0.7
    right = rng.random((patients, images)) < np.where(easy, 0.95, 0.05)[:, None]
    return np.repeat([f"p{n}" for n in range(patients)], images), right.ravel()


def test_intervals_hold_for_new_patients_where_those_over_images_do_not() -> None:
    truth = 0.7 * 0.95 + 0.3 * 0.05
    held = held_by_images = 0
    for seed in range(100):
        names, right = clustered(seed)
        estimate = Resampler(names, Sampling(300, seed)).ratio(right)
        images = Resampler(np.arange(len(right)).astype(str), Sampling(300, seed)).ratio(right)
        held += estimate.low <= truth <= estimate.high
        held_by_images += images.low <= truth <= images.high
    assert held >= 88
    assert held_by_images < 60


def test_a_replicate_is_the_figure_of_the_patients_drawn() -> None:
    names, right = clustered(3, patients=5, images=4)
    shuffled = np.random.default_rng(0).permutation(len(names))
    resampler = Resampler(names[shuffled], Sampling(20))
    sums = resampler.sums(right[shuffled])
    everyone = np.unique(names)
    for draw, total in zip(resampler.draws, sums, strict=True):
        by_hand = sum(times * right[names == name].sum() for name, times in zip(everyone, draw, strict=True))
        assert total == by_hand
    weights = np.concatenate(list(resampler.weights()))
    assert weights @ right[shuffled] == pytest.approx(sums)


def test_the_same_seed_gives_the_same_interval() -> None:
    names, right = clustered(1)
    assert Resampler(names, Sampling(200, 5)).ratio(right) == Resampler(names, Sampling(200, 5)).ratio(right)
    assert Resampler(names, Sampling(200, 5)).ratio(right) != Resampler(names, Sampling(200, 6)).ratio(right)


def test_a_lower_confidence_gives_a_narrower_interval() -> None:
    names, right = clustered(1)
    wide, narrow = (Resampler(names, Sampling(500, 0, level)).ratio(right) for level in (0.95, 0.6))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_faultless_images_have_an_interval_over_their_patients() -> None:
    names = np.repeat(["a", "b", "c", "d"], 25)
    estimate = Resampler(names).ratio(np.ones(100, bool))
    assert (estimate.value, estimate.high, estimate.patients) == (1.0, 1.0, 4)
    assert estimate.low == pytest.approx(0.025**0.25, abs=1e-5)
    assert Resampler(names).ratio(np.zeros(100, bool)).high == pytest.approx(1 - 0.025**0.25, abs=1e-5)
    assert Resampler(names).estimate(np.ones(1001), share=True).low == estimate.low


def test_a_mean_among_none_is_not_there_and_one_patient_bounds_nothing() -> None:
    names = np.array(["a", "a", "a"])
    nothing = Resampler(names).ratio(np.ones(3), np.zeros(3, bool))
    assert (nothing.value, nothing.low, nothing.images) == (None, None, 0)
    one = Resampler(names).ratio(np.array([0.2, 0.4, 0.6]))
    assert (one.value, one.low, one.high) == (0.4, None, None)


def test_replicates_that_are_not_numbers_are_left_out() -> None:
    estimate = summarise(np.array([0.5, np.nan, 0.25, 0.75]), 9, 3)
    assert 0.25 <= estimate.low <= 0.3
    assert summarise(np.array([0.5, np.nan]), 9, 3).low is None
