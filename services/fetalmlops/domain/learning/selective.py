"""Selective prediction: what a model is right in when it may hold back the images that it is least sure of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["accuracy_at", "aurc", "risk_coverage"]

_ROUNDING: Final = 1e-9


def risk_coverage(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coverage and risk, [images] each, as more and more images are accepted, the surest first.

    Examples
    --------
    >>> coverage, risk = risk_coverage(np.array([0.9, 0.8]), np.array([True, False]))
    >>> coverage.tolist(), risk.tolist()
    ([0.5, 1.0], [0.0, 0.5])
    """
    wrong = ~correct[np.argsort(-confidence, kind="stable")]
    accepted = np.arange(1, len(wrong) + 1)
    return accepted / len(wrong), np.cumsum(wrong) / accepted


def aurc(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the risk-coverage curve (Geifman et al., ICLR 2019), [draws].

    Parameters
    ----------
    confidence, correct
        Of each image, [images].
    weights
        How often each image counts, [draws, images].
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_weights = weights[:, order]
    accepted = np.cumsum(sorted_weights, axis=1)
    wrong = np.cumsum(sorted_weights * ~correct[order], axis=1)
    risk = wrong / np.maximum(accepted, _ROUNDING)
    return np.asarray((sorted_weights * risk).sum(axis=1) / accepted[:, -1], np.float64)


def accuracy_at(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], coverages: tuple[float, ...]
) -> dict[float, float]:
    """Return the accuracy over the surest images, by the share of images that is kept."""
    _, risk = risk_coverage(confidence, correct)
    return {each: round(1 - float(risk[max(1, math.ceil(each * len(risk) - _ROUNDING)) - 1]), 6) for each in coverages}
