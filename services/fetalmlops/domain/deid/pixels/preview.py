"""Small pictures of what would be kept of an image, and of nothing else: made for a person to look at.

What is not kept is filled before anything is scaled or encoded, so that no trace of it can be in the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.domain.deid.pixels.text import FoundText, TextDetector

__all__ = ["WIDEST", "masked_preview", "masked_text"]

WIDEST = 320
"""Width of a preview in pixels, at most."""

_FILL, _STRIPE = 88, 120  # mid grey, so that what is masked differs from the black of a picture
_STRIPES_EVERY, _STRIPE_WIDTH = 12, 2
_OUTLINE = (0, 191, 255)  # amber, in the order of OpenCV
_MARGIN = 3  # pixels around found text: strokes reach beyond their box
_TEXTURE_SIDES = 4
_QUALITY = 85


def masked_text(
    picture: NDArray[np.uint8], rectangles: Sequence[Rectangle], detector: TextDetector
) -> tuple[Rectangle, ...]:
    """Return where within the rectangles of a picture text stands, with a margin.

    Parameters
    ----------
    picture
        ``uint8`` of [rows, columns].
    rectangles
        Where to look; nothing else is shown to the detector.
    detector
        Who looks.
    """
    rows, columns = picture.shape
    left, top = min(box[0] for box in rectangles), min(box[1] for box in rectangles)
    right, bottom = max(box[2] for box in rectangles), max(box[3] for box in rectangles)
    shown = np.where(_inside(picture.shape, rectangles), picture, np.uint8(0))[top:bottom, left:right]
    found = [item.box for item in detector.find(np.ascontiguousarray(shown)) if not _is_texture(item, shown.shape)]
    return tuple(
        (
            max(0, left + x0 - _MARGIN),
            max(0, top + y0 - _MARGIN),
            min(columns, left + x1 + _MARGIN),
            min(rows, top + y1 + _MARGIN),
        )
        for x0, y0, x1, y1 in found
    )


def _is_texture(found: FoundText, shape: tuple[int, ...]) -> bool:
    """Return whether what was found is a picture that reads as one character: no screen writes as large as that."""
    x0, y0, x1, y1 = found.box
    return (
        len(found.text.strip()) <= 1 and (x1 - x0) * _TEXTURE_SIDES > shape[1] and (y1 - y0) * _TEXTURE_SIDES > shape[0]
    )


def masked_preview(
    picture: NDArray[np.uint8], rectangles: Sequence[Rectangle], filled: Sequence[Rectangle] = ()
) -> bytes:
    r"""Return a JPEG of at most `WIDEST` pixels a row, in which only the rectangles show anything.

    Parameters
    ----------
    picture
        ``uint8`` of [rows, columns].
    rectangles
        What is shown; outlined.
    filled
        What is filled within them.

    Examples
    --------
    >>> masked_preview(np.zeros((600, 800), np.uint8), [(60, 60, 700, 580)])[:3]
    b'\xff\xd8\xff'
    """
    shown = _inside(picture.shape, rectangles)
    for x0, y0, x1, y1 in filled:
        shown[y0:y1, x0:x1] = False
    rows, columns = picture.shape
    scale = min(1.0, WIDEST / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    small = cv2.resize(np.where(shown, picture, np.uint8(_FILL)), size, interpolation=cv2.INTER_AREA)
    stripes = np.add.outer(np.arange(size[1]), np.arange(size[0])) % _STRIPES_EVERY < _STRIPE_WIDTH
    hidden = cv2.resize(shown.astype(np.uint8), size, interpolation=cv2.INTER_AREA) == 0
    small[hidden & stripes] = _STRIPE
    coloured = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    for bounds in rectangles:
        x0, y0, x1, y1 = (round(bound * scale) for bound in bounds)
        cv2.rectangle(coloured, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), _OUTLINE, 1)
    return bytes(cv2.imencode(".jpg", coloured, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _inside(shape: tuple[int, ...], rectangles: Sequence[Rectangle]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    for x0, y0, x1, y1 in rectangles:
        inside[y0:y1, x0:x1] = True
    return inside
