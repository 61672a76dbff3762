from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.models.selective import clopper_pearson, patients_needed, selective_threshold

# Clopper and Pearson's intervals as published tables give them.
PUBLISHED = {(0, 10): (0.0, 0.3085), (1, 10): (0.0025, 0.4450), (5, 10): (0.1871, 0.8129), (10, 10): (0.6915, 1.0)}


@pytest.mark.parametrize(("counts", "expected"), PUBLISHED.items())
def test_the_interval_is_the_published_one(counts: tuple[int, int], expected: tuple[float, float]) -> None:
    assert clopper_pearson(*counts) == pytest.approx(expected, abs=6e-5)


def test_thousands_of_trials_are_no_matter() -> None:
    low, high = clopper_pearson(50, 5000)
    assert 0.007 < low < 0.01 < high < 0.0132


def test_one_patient_fewer_would_not_do() -> None:
    needed = patients_needed(0.1, errors=2)
    assert clopper_pearson(2, needed, 0.9)[1] <= 0.1 < clopper_pearson(2, needed - 1, 0.9)[1]


def site(seed: int, patients: int = 300, images: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.4, 1, patients * images)
    # Wrong below 0.7 more often than not, hardly ever above.
    correct = rng.random(len(confidence)) < np.where(confidence < 0.7, 0.4, 0.999)
    return confidence, correct, np.repeat(np.arange(patients).astype(str), images)


def test_the_least_threshold_whose_bound_holds_is_found() -> None:
    found = selective_threshold(*site(0), target=0.05)
    assert found.met
    assert 0.65 < found.threshold < 0.76
    assert found.bound <= 0.05
    assert found.patients <= 300 < found.images


def test_the_promise_holds_on_other_patients_as_often_as_the_level_says() -> None:
    kept = 0
    for seed in range(40):
        confidence, correct, patients = site(seed)
        found = selective_threshold(confidence, correct, patients, target=0.05, level=0.9)
        fresh, right, people = site(seed + 1000, patients=4000)
        accepted = fresh >= found.threshold
        risk = len(np.unique(people[accepted & ~right])) / len(np.unique(people[accepted]))
        kept += not found.met or risk <= 0.05
    assert kept >= 32


def test_too_few_patients_are_said_to_be() -> None:
    confidence, correct, patients = site(1, patients=20)
    found = selective_threshold(confidence, correct, patients, target=0.05)
    assert not found.met
    assert found.bound > 0.05


def test_a_patient_counts_once_however_many_images_are_wrong() -> None:
    confidence, patients = np.full(300, 0.98), np.repeat(np.arange(100).astype(str), 3)
    found = selective_threshold(confidence, np.arange(300) >= 3, patients, target=0.05)
    assert (found.errors, found.patients) == (1, 100)
    assert found.met
