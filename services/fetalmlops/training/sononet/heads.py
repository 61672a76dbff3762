"""Heads on the published one: its summed odds of each label's views, with a gain, and a strongly shrunken linear part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from fetalmlops.training.sononet.network import VIEWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fetalmlops.training.sononet.network import SonoNetPlanes

__all__ = ["Head", "Views", "fit_head", "image_weights"]

ABSENT: Final = -10.0
"""Bias of a label that the training images do not hold."""
_ITERATIONS = 5000
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class Views:
    """What the published head makes of the pooled embedding.

    Parameters
    ----------
    weight
        [views, 64].
    bias
        [views].
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def of(cls, network: SonoNetPlanes) -> Views:
        """Return the published head of a network."""
        weight, bias = network.views.weight[:, :, 0, 0], network.views.bias
        return cls(*(tensor.detach().numpy().astype(np.float64) for tensor in (weight, bias)))

    def odds(self, embedding: NDArray[np.float32], groups: Mapping[Any, tuple[str, ...]]) -> NDArray[np.float64]:
        """Return the log of the summed odds of each label's views, [..., labels], from embeddings, [..., 64]."""
        logits = embedding.astype(np.float64) @ self.weight.T + self.bias
        members = [[VIEWS.index(view) for view in group] for group in groups.values()]
        return np.stack([logsumexp(logits[..., chosen], axis=-1) for chosen in members], axis=-1)


@dataclass(frozen=True, eq=False)
class Head:
    """One head, the standardisation of its linear part's input folded in.

    Parameters
    ----------
    gain
        Factor of the published odds.
    weight
        Of the linear part, [labels, 64].
    bias
        [labels].
    """

    gain: float
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, odds: NDArray[np.float64], embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return logits from published odds, [images, labels], and pooled embeddings, [images, 64]."""
        linear = np.log1p(embedding.astype(np.float64)) @ self.weight.T + self.bias
        return np.asarray(self.gain * odds + linear, np.float64)

    def shifted(self, bias: NDArray[np.float64]) -> Head:
        """Return it with `bias` added."""
        return replace(self, bias=self.bias + bias)


def image_weights(labels: NDArray[np.int64], patients: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return weights of mean 1 by which every label counts the same, and within a label every patient.

    Examples
    --------
    >>> image_weights(np.array([0, 0, 0, 1]), np.array(["a", "a", "b", "c"])).tolist()
    [0.5, 0.5, 1.0, 2.0]
    """
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        of_label = labels == label
        for patient in np.unique(patients[of_label]):
            chosen = of_label & (patients == patient)
            weights[chosen] = 1 / (len(np.unique(patients[of_label])) * chosen.sum())
    return np.asarray(weights / weights.mean(), np.float64)


def fit_head(
    odds: NDArray[np.float64],
    embedding: NDArray[np.float32],
    labels: NDArray[np.int64],
    patients: NDArray[np.str_],
    *,
    strength: float,
    absent: float = ABSENT,
) -> Head:
    """Fit a head: the most probable one under normal priors on its linear part, around 0, and its gain, around 1.

    Parameters
    ----------
    odds
        What the published head says of the images and their copies, [images, copies, labels].
    embedding
        Their pooled embeddings, [images, copies, 64].
    labels, patients
        Of each image, [images].
    strength
        Inverse of the L2 penalty, scikit-learn's ``C``.
    absent
        Bias of labels that no image has.
    """
    copies, count = odds.shape[1:]
    rows = np.log1p(embedding.astype(np.float64)).reshape(-1, embedding.shape[2])
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), _LEAST_DEVIATION)
    known = np.unique(labels)
    targets = np.eye(len(known))[np.searchsorted(known, np.repeat(labels, copies))]
    weights = np.repeat(image_weights(labels, patients), copies)
    said = odds.reshape(-1, count)[:, known]
    gain, coefficients, intercepts = _most_probable(said, (rows - mean) / deviation, targets, weights, strength)
    weight, bias = np.zeros((count, rows.shape[1])), np.full(count, absent)
    weight[known] = coefficients / deviation
    bias[known] = intercepts - weight[known] @ mean
    return Head(gain, weight, bias)


def _most_probable(
    odds: NDArray[np.float64],
    rows: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64],
    strength: float,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return gain, coefficients [labels, features] and intercepts [labels] of the least penalised loss."""
    labels, features = targets.shape[1], rows.shape[1]
    design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        gain, matrix = parameters[0], parameters[1:].reshape(labels, features + 1)
        logits = gain * odds + design @ matrix.T
        value = -(weights[:, None] * targets * log_softmax(logits, axis=1)).sum()
        error = weights[:, None] * (softmax(logits, axis=1) - targets)
        slope = error.T @ design
        slope[:, :-1] += matrix[:, :-1] / strength
        value += ((gain - 1) ** 2 + (matrix[:, :-1] ** 2).sum()) / (2 * strength)
        return value, np.concatenate([[(error * odds).sum() + (gain - 1) / strength], slope.ravel()])

    start = np.zeros(1 + labels * (features + 1))
    start[0] = 1.0
    bounds = [(0.0, None), *[(None, None)] * (len(start) - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS})
    matrix = found.x[1:].reshape(labels, features + 1)
    return float(found.x[0]), matrix[:, :-1], matrix[:, -1] - matrix[:, -1].mean()
