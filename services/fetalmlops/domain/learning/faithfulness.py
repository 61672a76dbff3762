"""Faithfulness of explanations: whether a map shows what the model goes by.

A map that passes is still no proof that the answer is right, and says nothing of anatomy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["STEPS", "curve_area", "deletion_batch", "energy_inside", "insertion_batch", "over_input", "similarity"]

STEPS: Final = 10
"""Steps in which pixels are taken away or given back."""

_WINDOW: Final = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_BLUR: Final = 8.0


def over_input(activation: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Return a map of the network's grid over its whole input, [rows, columns], scaled to 0 to 1."""
    large = cv2.resize(activation, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray((large - large.min()) / max(float(np.ptp(large)), 1e-9), np.float32)


def deletion_batch(frame: NDArray[np.float32], ranking: NDArray[np.float32], steps: int = STEPS) -> NDArray[np.float32]:
    """Return a prepared frame from whole to empty, the highest ranked pixels leaving first (Petsiuk et al., BMVC 2018).

    Parameters
    ----------
    frame
        Prepared frame, [rows, columns].
    ranking
        Rank of each pixel, [rows, columns].
    steps
        Number of steps; the batch has one frame more.

    Returns
    -------
    NDArray[np.float32]
        [steps + 1, rows, columns]; what has left has the frame's mean, 0.

    Examples
    --------
    >>> deletion_batch(np.ones((1, 2), np.float32), np.float32([[0, 1]]), steps=2)[:, 0].tolist()
    [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    """
    return _blend(frame, np.zeros_like(frame), ranking, steps)


def insertion_batch(
    frame: NDArray[np.float32], ranking: NDArray[np.float32], steps: int = STEPS
) -> NDArray[np.float32]:
    """Return a frame from blurred to sharp, the highest ranked pixels becoming sharp first; parameters as `deletion_batch`."""
    blurred = np.asarray(cv2.GaussianBlur(frame, (0, 0), _BLUR), np.float32)
    return _blend(blurred, frame, ranking, steps)


def curve_area(probabilities: NDArray[np.float64]) -> float:
    """Return the area under a curve of probabilities at even steps, [steps + 1], by trapezia."""
    return float((probabilities[1:] + probabilities[:-1]).mean() / 2)


def energy_inside(activation: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of a map's positive energy inside an area, and the area's share of the map.

    A map that knows nothing of the area has as much energy inside as the area is large.

    Parameters
    ----------
    activation
        The map, [rows, columns].
    inside
        The area, [rows, columns].

    Examples
    --------
    >>> energy_inside(np.float32([[3, 1]]), np.array([[True, False]]))
    (0.75, 0.5)
    """
    positive = np.maximum(activation, 0).astype(np.float64)
    total = float(positive.sum())
    return (float(positive[inside].sum()) / total if total else 0.0), float(inside.mean())


def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the structural similarity of two maps of values 0 to 1 (Wang et al., IEEE Trans. Image Process. 13:600-612, 2004).

    Examples
    --------
    >>> ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
    >>> round(similarity(ramp, ramp), 6), similarity(ramp, ramp[:, ::-1]) < 0.2
    (1.0, True)
    """
    mean, other_mean = _local(one), _local(other)
    variance, other_variance = _local(one * one) - mean**2, _local(other * other) - other_mean**2
    covariance = _local(one * other) - mean * other_mean
    above = (2 * mean * other_mean + _C1) * (2 * covariance + _C2)
    below = (mean**2 + other_mean**2 + _C1) * (variance + other_variance + _C2)
    return float((above / below).mean())


def _blend(
    start: NDArray[np.float32], end: NDArray[np.float32], ranking: NDArray[np.float32], steps: int
) -> NDArray[np.float32]:
    order = np.argsort(-ranking.ravel(), kind="stable")
    batch = np.repeat(start.reshape(1, -1), steps + 1, axis=0)
    for step in range(1, steps + 1):
        moved = order[: round(step / steps * len(order))]
        batch[step, moved] = end.ravel()[moved]
    return batch.reshape(steps + 1, *start.shape)


def _local(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(values.astype(np.float64), (11, 11), _WINDOW), np.float64)
