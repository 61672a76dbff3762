"""Figures of calibration: whether a probability of 0.8 is right in 80 of 100 images.

Per image they are bins' gaps, squared errors and log-likelihoods; sums of these, over all images or over a bootstrap
replicate's, give the figures. Bins are of equal width and errors L1, as in Naeini et al. (AAAI 2015) and torchmetrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BINS", "Bin", "brier", "class_gaps", "log_loss", "reliability_table", "top_gaps", "total_gap"]

BINS: Final = 15
"""Bins of all calibration errors."""

_TINY: Final = 1e-12


@dataclass(frozen=True)
class Bin:
    """Images whose highest probability lies in one bin, from `low` up to `high`.

    Parameters
    ----------
    low, high
        Bounds of the bin.
    images
        How many lie in it.
    confidence
        Their mean highest probability; None where there is no image.
    accuracy
        Share of them that is right; None where there is no image.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def top_gaps(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = BINS) -> NDArray[np.float64]:
    """Return each image's confidence less 1 if it is right, in the column of its confidence's bin, [images, bins]."""
    confidence = probabilities.max(axis=1)
    return _gaps(confidence, probabilities.argmax(axis=1) == labels, bins)


def class_gaps(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = BINS) -> NDArray[np.float64]:
    """Return the same for every class and its own probability, [images, classes, bins] (Kull et al., NeurIPS 2019)."""
    classes = range(probabilities.shape[1])
    return np.stack([_gaps(probabilities[:, each], labels == each, bins) for each in classes], axis=1)


def total_gap(sums: NDArray[np.float64], images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the calibration error from sums of gaps, [..., bins], over `images`, [...].

    Examples
    --------
    >>> gaps = top_gaps(np.array([[0.8, 0.2]] * 4), np.array([0, 0, 0, 1]))
    >>> round(float(total_gap(gaps.sum(axis=0), np.array(4.0))), 6)
    0.05
    """
    return np.asarray(np.abs(sums).sum(axis=-1) / images, np.float64)


def brier(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each image's sum of squared errors over the classes, 0 to 2, [images] (Brier, Mon. Weather Rev. 78:1-3, 1950)."""
    return np.asarray(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1), np.float64)


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each image's negative log-likelihood, [images]."""
    return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], _TINY)), np.float64)


def reliability_table(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = BINS) -> list[Bin]:
    """Return confidence and accuracy by bin of confidence."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = _bin(confidence, bins)
    table = []
    for each in range(bins):
        inside = index == each
        count = int(inside.sum())
        means = (round(float(values[inside].mean()), 6) if count else None for values in (confidence, correct))
        table.append(Bin(round(each / bins, 6), round((each + 1) / bins, 6), count, *means))
    return table


def _gaps(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int) -> NDArray[np.float64]:
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), _bin(confidence, bins)] = confidence - correct
    return gaps


def _bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    return np.minimum((confidence * bins).astype(np.intp), bins - 1)
