"""The search of recipes; needs the train extra."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from fetalmlops.domain.errors import SettingsError
from fetalmlops.training.recipe import Range, Recipe, find_recipe
from fetalmlops.training.search import Trial, draw, efficient, halve

pytestmark = pytest.mark.torch

RECIPE = find_recipe("demonstration")


def searching(**ranges: Range) -> Recipe:
    return msgspec.structs.replace(RECIPE, search={name.replace("__", "."): each for name, each in ranges.items()})


def test_what_is_drawn_lies_in_its_range_and_nothing_else_changes() -> None:
    recipe = searching(fitting__learning_rate=Range(low=1e-4, high=1e-2), fitting__batch=Range(choices=[8, 16]))
    rng = np.random.default_rng(0)
    drawn = [draw(recipe, rng) for _ in range(200)]
    rates = np.array([each.fitting.learning_rate for each in drawn])
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    assert np.median(rates) == pytest.approx(1e-3, rel=0.5)
    assert {each.fitting.batch for each in drawn} == {8, 16}
    assert {each.augmentation for each in drawn} == {RECIPE.augmentation}


@pytest.mark.parametrize(
    "ranges",
    [
        {},
        {"fitting__epoch": Range(choices=[1])},
        {"none__at": Range(choices=[1])},
        {"fitting__batch": Range(choices=[0])},
    ],
)
def test_a_search_of_what_is_not_there_is_refused(ranges: dict[str, Range]) -> None:
    with pytest.raises(SettingsError, match=r"\[search\]"):
        draw(searching(**ranges), np.random.default_rng(0))


def test_the_better_half_goes_on_with_twice_the_epochs() -> None:
    recipe = searching(fitting__learning_rate=Range(low=1e-4, high=1e-2))
    done = halve(recipe, 5, lambda number, each: Trial(number, each, each.fitting.learning_rate, 1.0, 1.0))
    epochs = [trial.recipe.fitting.epochs for trial in done]
    assert epochs == sorted(epochs)
    assert [epochs.count(each) for each in sorted(set(epochs))] == [5, 2, 1, 1]
    assert epochs[-1] == recipe.fitting.epochs
    assert done[-1].score == max(trial.score for trial in done)


def test_a_trial_that_another_beats_in_all_is_not_efficient() -> None:
    good, small, bad = Trial(0, RECIPE, 0.9, 2.0, 5.0), Trial(1, RECIPE, 0.8, 1.0, 4.0), Trial(2, RECIPE, 0.7, 2.0, 6.0)
    unknown = Trial(3, RECIPE, 0.95, 9.0, None)
    assert efficient([bad, small, unknown, good]) == [unknown, good, small]
