"""What screens, software and the examiner's hand do to an image; all on ``uint8`` of [rows, columns]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.training.recipe import Augmentation

__all__ = ["move", "swap_background", "write_strip"]

_LETTERS: Final = "ABCDEFGHIKLMNOPRSTUVWXYZ0123456789.:-+ "


def move(frame: NDArray[np.uint8], how: Augmentation, rng: np.random.Generator, *, flipped: bool) -> NDArray[np.uint8]:
    """Turn, shift, scale and flip an image; what comes in from beside it is black."""
    rows, columns = frame.shape
    turn, size = rng.uniform(-how.turn, how.turn), 1 + rng.uniform(-how.scale, how.scale)
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), turn, max(0.1, size))
    matrix[:, 2] += rng.uniform(-how.shift, how.shift, 2) * (columns, rows)
    if flipped:
        matrix[0] *= -1
        matrix[0, 2] += columns - 1
    return np.asarray(cv2.warpAffine(frame, matrix, (columns, rows), flags=cv2.INTER_LINEAR), np.uint8)


def swap_background(
    frame: NDArray[np.uint8], sector: NDArray[np.uint8], other: NDArray[np.uint8], other_sector: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Replace what lies beside the sector by what lies beside that of another image (BackMix, arXiv 2406.19148)."""
    if other.shape != frame.shape:
        size = frame.shape[::-1]
        other = np.asarray(cv2.resize(other, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        other_sector = np.asarray(cv2.resize(other_sector, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.where(sector > 0, frame, np.where(other_sector > 0, 0, other)).astype(np.uint8)


def write_strip(frame: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Write a line of random letters somewhere, or blank a strip as software that removes writing does; changes `frame`."""
    rows, columns = frame.shape
    left, top = int(rng.integers(0, max(1, 3 * columns // 4))), int(rng.integers(0, max(1, rows - 6)))
    if rng.random() < 0.5:
        right, bottom = left + int(rng.integers(8, 12 + columns // 3)), top + int(rng.integers(3, 6 + rows // 10))
        frame[top:bottom, left:right] = 0
        return
    word = "".join(_LETTERS[index] for index in rng.integers(0, len(_LETTERS), int(rng.integers(2, 14))))
    shade = int(rng.integers(120, 256))
    cv2.putText(frame, word, (left, top + 6), cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.2, 0.45)), shade)
