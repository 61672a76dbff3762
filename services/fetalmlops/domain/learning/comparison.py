"""Comparing models on the same images: the same patients are drawn for both, so what they share cancels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning import metrics
from fetalmlops.domain.learning.intervals import Estimate, Resampler, Sampling, bound_difference
from fetalmlops.domain.learning.reliability import brier, log_loss, top_gaps, total_gap
from fetalmlops.domain.learning.summary import GROUPS, labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.predictions import Predictions

__all__ = ["RULE", "Candidate", "Comparison", "McNemar", "Placed", "compare", "mcnemar", "pareto"]

RULE: Final = (
    "Of the models whose accuracy is at most the margin below the best one's, the one with the least energy per image is "
    "chosen; of equal ones, the faster."
)
"""How `pareto` chooses."""

_SHOWN_INFERIOR: Final = "inferior"
_NON_INFERIOR: Final = "not inferior"
_OPEN: Final = "not shown"
_SHARES: Final = ("accuracy", "balanced_accuracy", "macro_f1")
_LEAST_PATIENTS: Final = 20
_USUAL: Final = Sampling()


@dataclass(frozen=True)
class McNemar:
    """Images on which only one model is right, and the exact two-sided p-value (McNemar, Psychometrika 12:153-157, 1947).

    It takes images as independent, which those of one patient are not: the differences' intervals decide.
    """

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The second model less the first, on the same images.

    Parameters
    ----------
    images, patients
        What it rests on.
    differences
        Differences by figure; of the calibration error, Brier score and likelihood, less is better.
    planes
        Differences of the planes' recall.
    non_inferiority
        By plane, whether the recall is shown to fall by less than the margin (``not inferior``), by more (``inferior``), or
        neither (``not shown``); fewer than 20 patients with the plane show nothing, for resampling them is too narrow.
    margin
        By how much a plane's recall may fall.
    groups
        Differences of accuracy by scanner, operator and site.
    mcnemar
        Images on which they differ.
    verdict
        ``not inferior`` if that is shown for all planes with images, ``inferior`` if shown for any, else ``not shown``.
    """

    images: int
    patients: int
    differences: dict[str, Estimate]
    planes: dict[str, Estimate]
    non_inferiority: dict[str, str]
    margin: float
    groups: dict[str, dict[str, Estimate]]
    mcnemar: McNemar
    verdict: str


@dataclass(frozen=True)
class Candidate:
    """A model with what is weighed: accuracy, milliseconds and joules per image."""

    name: str
    accuracy: float
    latency_ms: float
    joules: float


@dataclass(frozen=True)
class Placed:
    """A candidate; `dominated` if another is as good in all three figures and better in one."""

    candidate: Candidate
    dominated: bool
    chosen: bool


def compare(
    first: Predictions, second: Predictions, *, margin: float = 0.05, sampling: Sampling = _USUAL
) -> Comparison:
    """Compare two models on the same images.

    Parameters
    ----------
    first, second
        What the models said, of the same images in the same order.
    margin
        By how much a plane's recall may fall.
    sampling
        How intervals are made.

    Raises
    ------
    ContractError
        If the images differ, or none has a label.
    """
    if [image.sha256 for image in first.images] != [image.sha256 for image in second.images]:
        msg = "Expected predictions of two models on the same images, got others; run both on the same data and split"
        raise ContractError(msg, reason="predictions")
    first, second = labelled(first), labelled(second)
    resampler = Resampler(first.patients, sampling)
    one, other = _figures(first, resampler), _figures(second, resampler)
    recalls = _recalls(second, resampler) - _recalls(first, resampler)
    planes = {
        plane.value: _of_plane(recalls[:, index], first.labels == index, resampler)
        for index, plane in enumerate(PLANES)
        if (first.labels == index).any()
    }
    shown = {plane: _judge(estimate, margin) for plane, estimate in planes.items()}
    right, other_right = _right(first), _right(second)
    return Comparison(
        images=len(first),
        patients=resampler.patients,
        differences={name: _of_figure(name, other[name] - one[name], resampler) for name in one},
        planes=planes,
        non_inferiority=shown,
        margin=margin,
        groups={name: _by_group(first, other_right.astype(float) - right, name, resampler) for name in GROUPS},
        mcnemar=mcnemar(right, other_right),
        verdict=_verdict(list(shown.values())),
    )


def mcnemar(right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> McNemar:
    """Return on how many images only one of two models is right, [images] each, and how likely so uneven a split is.

    Examples
    --------
    >>> mcnemar(np.array([True] * 5 + [False]), np.array([False] * 5 + [True]))
    McNemar(only_first=5, only_second=1, p_value=0.21875)
    """
    first, second = int((right & ~other_right).sum()), int((~right & other_right).sum())
    trials = first + second
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        for k in range(min(first, second) + 1)
    ]
    tail = float(np.exp(np.array(logs) - trials * math.log(2)).sum())
    return McNemar(first, second, round(min(1.0, 2 * tail), 6))


def pareto(candidates: Sequence[Candidate], margin: float) -> list[Placed]:
    """Return the candidates with what is dominated, and which one `RULE` chooses.

    Parameters
    ----------
    candidates
        The models.
    margin
        By how much the accuracy may lie below that of the best.

    Examples
    --------
    >>> small, large = Candidate("small", 0.93, 2.0, 0.1), Candidate("large", 0.94, 9.0, 0.5)
    >>> [placed.chosen for placed in pareto([large, small], margin=0.02)]
    [False, True]
    """
    best = max(each.accuracy for each in candidates)
    near = [each for each in candidates if each.accuracy >= best - margin]
    chosen = min(near, key=lambda each: (each.joules, each.latency_ms, -each.accuracy))
    return [Placed(each, any(_dominates(other, each) for other in candidates), each is chosen) for each in candidates]


def _dominates(one: Candidate, other: Candidate) -> bool:
    pairs = [(one.accuracy, other.accuracy), (-one.latency_ms, -other.latency_ms), (-one.joules, -other.joules)]
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def _figures(known: Predictions, resampler: Resampler) -> dict[str, NDArray[np.float64]]:
    images = resampler.sums(np.ones(len(known)))
    sums = resampler.sums(_confusion(known))
    means = {
        "brier": brier(known.probabilities, known.labels),
        "negative_log_likelihood": log_loss(known.probabilities, known.labels),
    }
    return {
        "accuracy": metrics.accuracy(sums),
        "balanced_accuracy": metrics.balanced_accuracy(sums),
        "macro_f1": metrics.macro_f1(sums),
        "expected_calibration_error": total_gap(resampler.sums(top_gaps(known.probabilities, known.labels)), images),
        **{name: resampler.sums(values) / images for name, values in means.items()},
    }


def _recalls(known: Predictions, resampler: Resampler) -> NDArray[np.float64]:
    return metrics.recall(resampler.sums(_confusion(known)))


def _confusion(known: Predictions) -> NDArray[np.float64]:
    return metrics.one_hot_confusion(known.labels, known.probabilities.argmax(axis=1), len(PLANES))


def _right(known: Predictions) -> NDArray[np.bool_]:
    return np.asarray(known.probabilities.argmax(axis=1) == known.labels, np.bool_)


def _of_figure(name: str, values: NDArray[np.float64], resampler: Resampler) -> Estimate:
    estimate = resampler.estimate(values)
    return bound_difference(estimate, resampler.sampling.level) if name in _SHARES else estimate


def _of_plane(values: NDArray[np.float64], among: NDArray[np.bool_], resampler: Resampler) -> Estimate:
    estimate = resampler.estimate(values, int(among.sum()), len(np.unique(resampler.index[among])))
    return bound_difference(estimate, resampler.sampling.level)


def _by_group(known: Predictions, gains: NDArray[np.float64], by: str, resampler: Resampler) -> dict[str, Estimate]:
    names = np.array([getattr(image, by) for image in known.images], np.str_)
    return {
        str(name): bound_difference(resampler.ratio(gains, names == name), resampler.sampling.level)
        for name in np.unique(names)
        if name
    }


def _judge(difference: Estimate, margin: float) -> str:
    if difference.low is None or difference.high is None or difference.patients < _LEAST_PATIENTS:
        return _OPEN
    if difference.low > -margin:
        return _NON_INFERIOR
    return _SHOWN_INFERIOR if difference.high < -margin else _OPEN


def _verdict(shown: Sequence[str]) -> str:
    if _SHOWN_INFERIOR in shown:
        return _SHOWN_INFERIOR
    return _NON_INFERIOR if all(each == _NON_INFERIOR for each in shown) else _OPEN
