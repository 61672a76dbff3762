"""Changes change what they say and nothing else; faithfulness tells a true map from a false one."""

from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.learning.behaviour import BLANK, CHANGES, behaviour_figures, with_overlays, without_overlays
from fetalmlops.domain.learning.faithfulness import (
    curve_area,
    deletion_batch,
    energy_inside,
    insertion_batch,
    over_input,
    similarity,
)
from fetalmlops.domain.learning.intervals import Resampler, Sampling
from fetalmlops.domain.simulation.rendering import render
from fetalmlops.domain.simulation.scanners import SCANNERS


@pytest.fixture(scope="module")
def screen() -> np.ndarray:
    pixels = render(Plane.THORAX, SCANNERS[0], np.random.default_rng(5)).pixels
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("coloured", [False, True])
def test_changes_keep_the_type_and_the_original(name: str, coloured: bool, screen: np.ndarray) -> None:
    given = np.repeat(screen[..., None], 3, axis=2) if coloured else screen
    before = given.copy()
    changed = CHANGES[name](given, np.random.default_rng(1))
    assert changed.dtype == np.uint8
    assert (given == before).all()
    again = CHANGES[name](given, np.random.default_rng(1))
    assert (changed == again).all()


def test_gain_is_three_decibels(screen: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    middle = (screen > 40) & (screen < 150)
    brighter = CHANGES["gain +3 dB"](screen, rng)[middle] / screen[middle]
    darker = CHANGES["gain -3 dB"](screen, rng)[middle] / screen[middle]
    assert 20 * np.log10(brighter.mean()) == pytest.approx(3, abs=0.05)
    assert 20 * np.log10(darker.mean()) == pytest.approx(-3, abs=0.05)
    assert (CHANGES["gain +3 dB"](screen, rng)[screen == 0] == 0).all()


def test_drawn_overlays_are_mostly_removed_again(screen: np.ndarray) -> None:
    drawn = with_overlays(screen, np.random.default_rng(3))
    where = drawn != screen
    assert 20 < where.sum() < 0.01 * screen.size
    cleaned = without_overlays(drawn, np.random.default_rng(3))
    before, after = (np.abs(each[where].astype(int) - screen[where]).mean() for each in (drawn, cleaned))
    assert after < before / 2


def test_a_held_back_answer_holds_and_an_accepted_other_plane_does_not() -> None:
    resampler = Resampler(np.array(["a", "b", "c", "d"]), Sampling(100))
    before, after = np.array([1, 1, 1, 1]), np.array([1, 2, 2, 1])
    said = np.array(["accept", "review", "accept", "out_of_scope"])
    figures = behaviour_figures("speckle", before, after, said, resampler)
    assert (figures.kept.value, figures.changed.value, figures.accepted.value) == (0.75, 0.5, 0.5)
    assert behaviour_figures(BLANK, before, after, said, resampler).kept.value == 0.5


def test_a_true_map_is_more_faithful_than_its_reverse() -> None:
    rng = np.random.default_rng(2)
    frame = rng.normal(0, 1, (32, 40)).astype(np.float32)
    importance = np.zeros((32, 40), np.float32)
    importance[8:16, 10:20] = 1

    def model(batch: np.ndarray) -> np.ndarray:  # sure as far as the important part is the frame's own
        likeness = 1 - np.abs(batch - frame)[:, 8:16, 10:20].mean(axis=(1, 2))
        return 1 / (1 + np.exp(-8 * (likeness - 0.5)))

    def faithfulness(ranking: np.ndarray) -> float:
        return curve_area(model(insertion_batch(frame, ranking))) - curve_area(model(deletion_batch(frame, ranking)))

    assert faithfulness(importance) > 0.5
    assert faithfulness(1 - importance) < -0.2


def test_batches_go_from_whole_to_empty_and_from_blurred_to_whole() -> None:
    frame = np.random.default_rng(2).normal(0, 1, (20, 20)).astype(np.float32)
    ranking = np.random.default_rng(3).random((20, 20), np.float32)
    deletion, insertion = deletion_batch(frame, ranking, 5), insertion_batch(frame, ranking, 5)
    assert (deletion[0] == frame).all()
    assert (deletion[-1] == 0).all()
    assert (insertion[-1] == frame).all()
    assert [(each == 0).sum() for each in deletion] == [0, 80, 160, 240, 320, 400]


def test_energy_and_similarity_have_their_extremes() -> None:
    inside = np.zeros((10, 10), bool)
    inside[:5] = True
    assert energy_inside(inside.astype(np.float32), inside) == (1.0, 0.5)
    assert energy_inside(-np.ones((10, 10), np.float32), inside) == (0.0, 0.5)
    assert energy_inside(np.ones((10, 10), np.float32), inside) == (0.5, 0.5)
    rng = np.random.default_rng(1)
    one, other = (over_input(rng.random((6, 8), np.float32), 60, 80) for _ in range(2))
    assert similarity(one, one) == pytest.approx(1)
    assert similarity(one, other) < 0.5
    assert (one.min(), one.max()) == (0, 1)
