"""What sound, depth and settings do to the grey levels of a sector; all on ``float32`` of [rows, columns], 0 to 255."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["attenuate", "cast_shadow", "scale_grey", "speckle"]

_BANK: Final = 1024
_GRAIN: Final = 0.8
_WHITE: Final = 255.0


def scale_grey(grey: NDArray[np.float32], gamma: float, gain: float) -> NDArray[np.float32]:
    """Bend the grey curve by ``exp(gamma)`` and scale it by ``exp(gain)``."""
    curve = np.arange(256, dtype=np.float32) / np.float32(_WHITE)
    curve = np.float32(_WHITE * np.exp(gain)) * curve ** np.float32(np.exp(gamma))
    return np.asarray(cv2.LUT(grey.astype(np.uint8), curve.astype(np.float32)), np.float32)


def attenuate(grey: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Darken (below 0) or brighten with depth: by ``exp(strength)`` from the first to the last row, 1 in the middle."""
    depth = np.linspace(-0.5, 0.5, len(grey), dtype=np.float32)
    return np.asarray(grey * np.exp(np.float32(strength) * depth)[:, None], np.float32)


def speckle(grey: NDArray[np.float32], factor: float, noise: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Multiply by grains of standard deviation `factor` about 1, and add those of `noise` grey levels."""
    rows, columns = grey.shape
    coarse, fine = (_window(_grains(kind), rows, columns, rng) for kind in (_GRAIN, 0.0))
    return np.asarray(grey * (1 + np.float32(factor) * coarse) + np.float32(noise) * fine, np.float32)


def cast_shadow(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Darken a band that begins at some depth and widens below it, as bone or gas does."""
    rows, columns = grey.shape
    top = int(rng.integers(0, max(1, 2 * rows // 3)))
    centre, width, lean = rng.uniform(0.1, 0.9) * columns, rng.uniform(0.04, 0.15) * columns, rng.uniform(-0.3, 0.3)
    bottom = centre + lean * (rows - top)
    corners = [(centre - width / 2, top), (centre + width / 2, top), (bottom + width, rows), (bottom - width, rows)]
    shade = np.ones_like(grey)
    cv2.fillConvexPoly(shade, np.array(corners, np.int32), float(rng.uniform(0.1, 0.6)))
    return grey * np.asarray(cv2.blur(shade, (5, 5)), np.float32)


@cache
def _grains(size: float) -> NDArray[np.float32]:
    """Return a field of grains of mean 0 and deviation 1; drawing one anew for every image would cost more than all else."""
    field = np.random.default_rng(round(10 * size)).standard_normal((_BANK, _BANK), np.float32)
    if size:
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), size), np.float32)
    return np.asarray(field / field.std(), np.float32)


def _window(field: NDArray[np.float32], rows: int, columns: int, rng: np.random.Generator) -> NDArray[np.float32]:
    top, left = (int(rng.integers(0, _BANK - side + 1)) for side in (rows, columns))
    window = field[top : top + rows, left : left + columns]
    return window[:: 1 if rng.random() < 0.5 else -1, :: 1 if rng.random() < 0.5 else -1]
