"""Selective prediction: the threshold above which errors are rare, with a bound that holds for patients.

Images of one patient are not independent, so the patient is what counts: one is in error where any image that would be
accepted is wrong. The bound is Clopper and Pearson's, exact for independent patients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.models.evidence import SelectiveThreshold

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["clopper_pearson", "judge_threshold", "patients_needed", "selective_threshold"]

_STEPS = 60
_HIGHEST, _FLOOR = 0.99, 0.5


def clopper_pearson(errors: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the two-sided exact interval of a share.

    Parameters
    ----------
    errors, trials
        How many of how many.
    level
        Confidence.

    Examples
    --------
    >>> [round(bound, 4) for bound in clopper_pearson(2, 20)]
    [0.0123, 0.317]
    """
    half = (1 - level) / 2
    return _lower(errors, trials, half), _upper(errors, trials, half)


def patients_needed(target: float, level: float = 0.95, errors: int = 0) -> int:
    """Return how many patients, `errors` of them in error, put the upper bound of the risk within `target`.

    Examples
    --------
    >>> patients_needed(0.05), patients_needed(0.05, errors=1)
    (59, 93)
    """
    trials = errors + 1
    while _upper(errors, trials, 1 - level) > target:
        trials = max(trials + 1, math.ceil(trials * 1.02))
    while trials > errors + 1 and _upper(errors, trials - 1, 1 - level) <= target:
        trials -= 1
    return trials


def selective_threshold(
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    patients: NDArray[np.str_],
    *,
    target: float,
    level: float = 0.95,
) -> SelectiveThreshold:
    """Return the least threshold at which the upper bound of the risk by patient lies within the target.

    Thresholds are tested in a fixed sequence down to 0.5, each only where the one above it held, so that choosing among them
    leaves the level as it is. The first is the highest at which enough patients have an accepted image for one error to be
    borne (for none, where they are fewer): a choice that looks at no label. Where the first does not hold, it is returned, and
    the result says that the target is not met.

    Parameters
    ----------
    confidence
        Calibrated probability of the likeliest class, [images], of images that set neither weights nor temperature.
    correct
        Whether it is right, [images].
    patients
        Patient of each image, [images].
    target
        Highest wished share of patients in error.
    level
        Confidence of the bound, one-sided.
    """
    tried = [round(_HIGHEST - step * (_HIGHEST - _FLOOR) / (_STEPS - 1), 4) for step in range(_STEPS)]
    everyone = len(np.unique(patients[confidence >= tried[-1]]))
    wanted = patients_needed(target, level, errors=1)
    if everyone < wanted:
        wanted = patients_needed(target, level)
    counts = [len(np.unique(patients[confidence >= threshold])) for threshold in tried]
    first = next((index for index, count in enumerate(counts) if count >= wanted), 0)
    found = judge_threshold(tried[first], confidence, correct, patients, target=target, level=level)
    for threshold in tried[first + 1 :] if found.met else []:
        lower = judge_threshold(threshold, confidence, correct, patients, target=target, level=level)
        if not lower.met:
            break
        found = lower
    return found


def judge_threshold(
    threshold: float,
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    patients: NDArray[np.str_],
    *,
    target: float,
    level: float = 0.95,
) -> SelectiveThreshold:
    """Return what stands behind a threshold that other images have set; parameters as of `selective_threshold`.

    Examples
    --------
    >>> judge_threshold(0.5, np.array([0.9, 0.4]), np.array([True, False]), np.array(["a", "b"]), target=0.05).bound
    0.95
    """
    accepted = confidence >= threshold
    trials = len(np.unique(patients[accepted]))
    errors = len(np.unique(patients[accepted & ~correct]))
    bound = _upper(errors, trials, 1 - level) if trials else 1.0
    return SelectiveThreshold(
        threshold=threshold,
        target=target,
        bound=round(bound, 6),
        level=level,
        errors=errors,
        patients=trials,
        images=int(accepted.sum()),
        coverage=round(float(accepted.mean()), 6),
        met=bound <= target,
    )


def _upper(errors: int, trials: int, tail: float) -> float:
    if errors >= trials:
        return 1.0
    return _solve(lambda share: _at_most(errors, trials, share) > tail)


def _lower(errors: int, trials: int, tail: float) -> float:
    if not errors:
        return 0.0
    return _solve(lambda share: 1 - _at_most(errors - 1, trials, share) < tail)


def _solve(below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def _at_most(errors: int, trials: int, share: float) -> float:
    """Return the probability of at most so many errors in so many trials, by logarithms: trials may be thousands."""
    if share in (0.0, 1.0):
        return float(share == 0.0 or errors >= trials)
    counts = np.arange(errors + 1)
    choose = [math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in counts.tolist()]
    terms = np.array(choose) + counts * math.log(share) + (trials - counts) * math.log1p(-share)
    return float(min(1.0, np.exp(terms).sum()))
