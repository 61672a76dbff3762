"""Checks of a frame before any model is asked: whether there is a picture, and whether it can be ultrasound at all.

They are deterministic and know no model. Ultrasound is speckle over anatomy: the share of fine texture in all that varies
lies between that of a smooth picture and that of noise or writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["REASON_BLANK", "REASON_CONTENT", "REASON_SIZE", "fine_share", "grey_entropy", "screen_frame"]

REASON_BLANK: Final = "blank"
"""The frame is of one grey level, or nearly so."""
REASON_CONTENT: Final = "content"
"""What the frame shows cannot be ultrasound: it is too smooth, too fine, or of too few grey levels."""
REASON_SIZE: Final = "size"
"""The frame has too few pixels to be judged."""

_LEAST_SIDE: Final = 32
_LARGE: Final = 128
_BLACK: Final = 8
_BLANK_DEVIATION: Final = 0.012 * 255
_LEAST_FINE, _MOST_FINE = 0.07, 0.65
_LEAST_ENTROPY: Final = 3.5
_REACH: Final = 3 / 512


def screen_frame(frame: NDArray[np.uint8]) -> tuple[str, ...]:
    """Return why a frame cannot be judged; empty where nothing speaks against it.

    Parameters
    ----------
    frame
        A normalised frame, ``uint8`` of [rows, columns].

    Examples
    --------
    >>> screen_frame(np.full((64, 64), 40, np.uint8))
    ('blank',)
    >>> screen_frame(np.tile(np.arange(256, dtype=np.uint8), (200, 1)))
    ('content',)
    """
    if float(cv2.meanStdDev(frame)[1][0, 0]) < _BLANK_DEVIATION:
        return (REASON_BLANK,)
    if min(frame.shape) < _LEAST_SIDE:
        return (REASON_SIZE,)
    # Every other pixel tells as much of levels and texture, at a quarter of the time.
    sparse = np.ascontiguousarray(frame[::2, ::2]) if min(frame.shape) >= _LARGE else frame
    possible = _LEAST_FINE <= fine_share(sparse) <= _MOST_FINE and grey_entropy(sparse) >= _LEAST_ENTROPY
    return () if possible else (REASON_CONTENT,)


def fine_share(frame: NDArray[np.uint8]) -> float:
    """Return the share of fine texture, 0 to 1, in what varies where the frame is not black."""
    lit = cv2.threshold(frame, _BLACK, 1, cv2.THRESH_BINARY)[1]
    count = cv2.countNonZero(lit)
    if not count:
        return 0.0
    side = 2 * max(1, round(_REACH * max(frame.shape))) + 1
    coarse = cv2.blur(cv2.blur(frame, (side, side)), (side, side))
    fine = cv2.norm(frame, coarse, cv2.NORM_L2, lit) / float(np.sqrt(count))
    rest = float(cv2.meanStdDev(coarse, mask=lit)[1][0, 0])
    return fine / (fine + rest) if fine + rest else 0.0


def grey_entropy(frame: NDArray[np.uint8]) -> float:
    """Return the entropy of the grey levels that are not black, in bits."""
    counts = cv2.calcHist([frame], [0], None, [256], [0, 256]).ravel()[_BLACK + 1 :]
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum())
