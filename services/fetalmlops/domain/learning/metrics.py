"""Figures of classification, all functions of a confusion matrix; a leading axis holds bootstrap replicates.

``confusion[..., i, j]`` counts images of class i that were called j. What cannot be had, such as the recall of a class
without an image, is NaN.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["accuracy", "balanced_accuracy", "f1", "macro_f1", "one_hot_confusion", "precision", "recall"]


def one_hot_confusion(labels: NDArray[np.int64], called: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return each image's own confusion matrix, [images, classes, classes]: a 1 in one cell.

    Parameters
    ----------
    labels
        Class of each image, [images]; images whose label is negative count nowhere.
    called
        Class that the model named, [images].
    classes
        Number of classes.

    Examples
    --------
    >>> one_hot_confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).sum(axis=0).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    cells = np.zeros((len(labels), classes, classes))
    known = np.flatnonzero(labels >= 0)
    cells[known, labels[known], called[known]] = 1
    return cells


def accuracy(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of images called rightly, [...]."""
    return _divide(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def recall(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, per class, the share of its images that were called so, [..., classes]."""
    return _divide(_hits(confusion), confusion.sum(axis=-1))


def precision(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, per class, the share of the images called so that are of it, [..., classes]."""
    return _divide(_hits(confusion), confusion.sum(axis=-2))


def f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, per class, the harmonic mean of precision and recall, [..., classes].

    Examples
    --------
    >>> f1(np.array([[3.0, 1.0], [2.0, 4.0]])).round(4).tolist()
    [0.6667, 0.7273]
    """
    return _divide(2 * _hits(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2))


def balanced_accuracy(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean recall over the classes that have images, [...]."""
    return _mean(recall(confusion))


def macro_f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean F1 over the classes that have images, [...]."""
    return _mean(np.where(confusion.sum(axis=-1) > 0, f1(confusion), np.nan))


def _hits(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan), np.float64)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no class has an image: NaN
        return np.asarray(np.nanmean(values, axis=-1), np.float64)
