"""Shrinking without aliasing, bit-exact on every processor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fitted", "halve", "shrink"]

_BLUR = 0.35
_FAINTEST = 0.25  # below it a kernel of 3 pixels is the identity


def fitted(rows: int, columns: int, longest: int) -> tuple[int, int]:
    """Return the size of a frame once its long side is at most `longest` pixels; it is never enlarged.

    Examples
    --------
    >>> fitted(600, 800, 512), fitted(300, 200, 512), fitted(1, 65535, 512)
    ((384, 512), (300, 200), (1, 512))
    """
    scale = min(1.0, longest / max(rows, columns))
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def shrink(frame: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Shrink a grey frame to `rows` by `columns`, neither of them more than it has.

    Means over 2 x 2 pixels, as long as a factor of 2 or more remains, then a small blur that fits what remains and a linear
    resize: a quarter of the time of area interpolation, whose uneven factors have no vectorised code. All three are exact
    integer arithmetic in OpenCV.

    Examples
    --------
    >>> shrink(np.full((600, 800), 7, np.uint8), 384, 512).shape
    (384, 512)
    """
    while frame.shape[0] >= 2 * rows and frame.shape[1] >= 2 * columns:
        frame = halve(frame)
    if frame.shape == (rows, columns):
        return np.ascontiguousarray(frame)
    sigma = (_sigma(frame.shape[1] / columns), _sigma(frame.shape[0] / rows))
    if max(sigma) > _FAINTEST:
        frame = cv2.GaussianBlur(frame, (3, 3), sigma[0], sigmaY=sigma[1], hint=cv2.ALGO_HINT_ACCURATE)
    return np.asarray(cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR_EXACT))


def halve(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the means over 2 x 2 pixels; the last row or column of an odd number is left out, unless it is the only one."""
    rows, columns = max(1, frame.shape[0] // 2), max(1, frame.shape[1] // 2)
    return np.asarray(cv2.resize(frame[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA))


def _sigma(factor: float) -> float:
    """Return the blur before a linear resize by `factor`: the least error against a Lanczos resize of real frames."""
    return max(_FAINTEST, _BLUR * math.sqrt(max(0.0, factor * factor - 1)))
