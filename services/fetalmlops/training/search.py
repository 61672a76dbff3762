"""Search of a recipe's fields: random trials, of which the better half goes on with twice the epochs, until one is left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fetalmlops.training.recipe import Range
    from fetalmlops.training.session import Trained

__all__ = ["Trial", "draw", "efficient", "halve", "latency_ms"]

_RUNS: Final = 15
_JOULES_PER_KWH: Final = 3.6e6


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Parameters
    ----------
    number
        Number of the draw.
    recipe
        What was trained.
    score
        Highest macro-F1 of its epochs on the validation images.
    latency
        Time of one image in one thread, ms.
    joules
        Energy of the training, modelled; None where it is unknown.
    """

    number: int
    recipe: Recipe
    score: float
    latency: float
    joules: float | None

    @classmethod
    def of(cls, number: int, recipe: Recipe, trained: Trained) -> Trial:
        """Return the trial that a training was."""
        kwh = trained.energy.kwh
        joules = None if kwh is None else kwh * _JOULES_PER_KWH
        return cls(number, recipe, trained.state.best_score, latency_ms(trained.files), joules)


def draw(recipe: Recipe, rng: np.random.Generator) -> Recipe:
    """Return a recipe with its searched fields drawn at random.

    Raises
    ------
    SettingsError
        If it names no field to search, or one that it does not have or that cannot take the value.
    """
    if not recipe.search:
        msg = "Expected a recipe with a table [search] of ranges, got one without; name what may be changed"
        raise SettingsError(msg)
    fields = msgspec.to_builtins(recipe)
    for place, values in sorted(recipe.search.items()):
        *tables, name = place.split(".")
        table = fields
        for each in tables:
            table = table.get(each, {})
        if name not in table:
            msg = f"Expected fields of the recipe in [search], got {place}; mend it"
            raise SettingsError(msg)
        table[name] = _value(values, rng)
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        msg = f"Expected ranges of valid values in [search], got one that is not: {error}; mend it"
        raise SettingsError(msg) from None


def halve(recipe: Recipe, trials: int, run: Callable[[int, Recipe], Trial]) -> list[Trial]:
    """Search by successive halving (Jamieson and Talwalkar, AISTATS 2016).

    Each rung trains from the start, because the learning rate falls over all epochs of a training; the last rung has the
    recipe's own epochs.

    Parameters
    ----------
    recipe
        The recipe; its seed is that of the draws too.
    trials
        Recipes to draw.
    run
        Trains one.

    Returns
    -------
    list[Trial]
        All trials in the order of their running; the last rung's come last.
    """
    rng = np.random.default_rng(recipe.seed)
    drawn = list(enumerate(draw(recipe, rng) for _ in range(trials)))
    rungs, done = math.ceil(math.log2(trials)) if trials > 1 else 0, []
    for rung in range(rungs + 1):
        epochs = max(1, recipe.fitting.epochs // 2 ** (rungs - rung))
        now = [run(number, _with_epochs(each, epochs)) for number, each in drawn]
        done += now
        best = sorted(now, key=lambda trial: -trial.score)[: max(1, len(now) // 2)]
        drawn = [(trial.number, trial.recipe) for trial in best]
    return done


def efficient(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in score, latency and energy at once (the Pareto front), best score first."""
    front = [trial for trial in trials if not any(_beats(other, trial) for other in trials)]
    return sorted(front, key=lambda trial: -trial.score)


def latency_ms(files: dict[str, bytes]) -> float:
    """Return the median time of one image by a bundle's network in one thread, ms."""
    bundle = load_bundle(files)
    engine, spec = OpenVinoEngine(bundle, threads=1), bundle.manifest.input
    batch = np.zeros((1, spec.rows, spec.columns), np.float32)
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        engine.infer(batch)
        times.append(time.perf_counter() - began)
    return 1000 * median(times)


def _beats(other: Trial, trial: Trial) -> bool:
    one, two = (
        (-each.score, each.latency, math.inf if each.joules is None else each.joules) for each in (other, trial)
    )
    return one != two and all(left <= right for left, right in zip(one, two, strict=True))


def _value(values: Range, rng: np.random.Generator) -> Any:
    if values.choices:
        return values.choices[int(rng.integers(len(values.choices)))]
    low, high = values.low or 0.0, values.high or 0.0
    return float(np.exp(rng.uniform(np.log(low), np.log(high))) if values.log else rng.uniform(low, high))


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return msgspec.structs.replace(recipe, fitting=msgspec.structs.replace(recipe.fitting, epochs=epochs))
