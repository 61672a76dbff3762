"""Calibration: logits to probabilities that mean what they say (temperature scaling, Guo et al., ICML 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["expected_calibration_error", "fit_temperature", "negative_log_likelihood", "softmax"]

_LOG_RANGE = (-3.0, 3.0)
_GOLDEN = (5**0.5 - 1) / 2


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities over the last axis of `logits` divided by `temperature`.

    Examples
    --------
    >>> softmax(np.log([[1.0, 3.0]])).tolist()
    [[0.25, 0.75]]
    """
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), np.float64)


def negative_log_likelihood(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of `labels`, [images], under `probabilities`, [images, classes]."""
    likelihoods = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihoods, 1e-12)).mean())


def expected_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64], bins: int = 15) -> float:
    """Return the L1 calibration error of the top class over `bins` bins of equal width.

    Examples
    --------
    >>> expected_calibration_error(np.array([[0.8, 0.2]] * 5), np.array([0, 0, 0, 0, 1]))
    0.0
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((confidence - correct)[index == each].sum()) for each in range(bins)]
    return round(float(sum(gaps)) / len(labels), 12)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64], *, iterations: int = 60) -> float:
    """Return the temperature that minimises the negative log-likelihood of held-out images.

    The loss has one minimum in the temperature, so a golden-section search over its logarithm finds it; it lies between
    0.05 and 20. Where all n images are classified rightly the loss has none: it falls as long as the temperature does, until
    every probability is 1 and none tells more than another. The temperature is then the one that gives them the mean
    confidence (n + 1) / (n + 2), the rule of succession.

    Parameters
    ----------
    logits
        Logits of images that the network was not trained on, [images, classes].
    labels
        Class of each image, [images].
    iterations
        Steps of the search.

    Examples
    --------
    >>> logits = np.log(np.array([[0.75, 0.25]] * 4)) * 2
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 3)
    2.0
    """
    right = bool((logits.argmax(axis=-1) == labels).all())
    expected = (len(labels) + 1) / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        if right:
            return abs(float(probabilities.max(axis=-1).mean()) - expected)
        return negative_log_likelihood(probabilities, labels)

    low, high = _LOG_RANGE
    for _ in range(iterations):
        width = _GOLDEN * (high - low)
        if loss(high - width) < loss(low + width):
            high = low + width
        else:
            low = high - width
    return float(np.exp((low + high) / 2))
