"""A linear change of a model's head, fitted to a site by its labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.learning.adaptation import patient_folds
from fetalmlops.domain.models.calibration import negative_log_likelihood, softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HeadChange", "fit_head"]

_PENALTIES: Final = (1.0, 0.1, 0.01, 0.001)
_ITERATIONS: Final = 300


@dataclass(frozen=True, eq=False)
class HeadChange:
    """A linear function of the embedding that is added to the logits.

    Parameters
    ----------
    weight, bias
        The function, [embedding, planes] and [planes].
    logits
        The changed logits of each image by a function fitted on other patients, ``float32`` of [images, planes].
    penalty
        The penalty that did best on patients it was not fitted on.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    logits: NDArray[np.float32]
    penalty: float


def fit_head(
    logits: NDArray[np.float32],
    embedding: NDArray[np.float32],
    labels: NDArray[np.int64],
    patients: NDArray[np.str_],
    temperature: float = 1.0,
) -> HeadChange:
    """Fit a change of the head by logistic regression on the embedding.

    The change is penalised, not the head: with little data the old head stays. Planes that the site does not show would be
    unlearnt: see `fetalmlops.domain.learning.adaptation.check_planes`.

    Parameters
    ----------
    logits
        Logits of the old head, [images, planes].
    embedding
        Embedding of each image, [images, length].
    labels, patients
        Plane and patient of each image, [images].
    temperature
        Temperature of the old head.
    """
    centre, spread = embedding.mean(axis=0).astype(np.float64), embedding.std(axis=0).astype(np.float64) + 1e-6
    scaled = (embedding - centre) / spread
    folds = patient_folds(patients)
    best, chosen, penalty = np.inf, logits.astype(np.float64), _PENALTIES[0]
    for each in _PENALTIES:
        changed = logits.astype(np.float64).copy()
        for fold in np.unique(folds):
            rest, own = folds != fold, folds == fold
            weight, bias = _regress(logits[rest], scaled[rest], labels[rest], each, temperature)
            changed[own] += scaled[own] @ weight + bias
        loss = negative_log_likelihood(softmax(changed, temperature), labels)
        if loss < best:
            best, chosen, penalty = loss, changed, each
    weight, bias = _regress(logits, scaled, labels, penalty, temperature)
    weight = weight / spread[:, None]
    return HeadChange(weight, bias - centre @ weight, chosen.astype(np.float32), penalty)


def _regress(
    logits: NDArray[np.float32],
    scaled: NDArray[np.float64],
    labels: NDArray[np.int64],
    penalty: float,
    temperature: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weight and bias by accelerated gradient descent (Nesterov 1983): the loss is convex and smooth."""
    x = np.hstack([scaled, np.ones((len(scaled), 1))])
    targets = np.eye(logits.shape[1])[labels]
    smoothness = float(np.linalg.norm(x, 2)) ** 2 / (2 * len(x) * temperature**2) + penalty
    point = previous = np.zeros((x.shape[1], logits.shape[1]))
    for step in range(_ITERATIONS):
        ahead = point + step / (step + 3) * (point - previous)
        gap = softmax(logits + x @ ahead, temperature) - targets
        gradient = x.T @ gap / (len(x) * temperature) + penalty * ahead
        previous, point = point, ahead - gradient / smoothness
    return point[:-1], point[-1]
