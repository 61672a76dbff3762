"""Thumbnails of refused images for the person who judges them: what is proven as it is, everything else as a coarse mosaic.

The mosaic keeps text from being read. It is no de-identification: a thumbnail is to be handled as its original is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.deid.pixels.frames import Frame
    from fetalmlops.domain.deid.pixels.regions import Rectangle

__all__ = ["draw_thumbnail", "mask_frame"]

_LEAST_BLOCK = 16
_BLOCKS = 50  # along the longer side: 16 pixels for a screen of 600 x 800
_LEVELS = 16  # grey levels of the mosaic: fewer leave less to compare guesses with
_LEAST_EDGE = 4
_LONG_SIDE = 800
_MARGIN, _TICK = 40, 100
_PAPER, _INK = 255, (0, 0, 0)
_FOUND, _KEPT = (255, 0, 255), (0, 160, 0)


def mask_frame(
    grey: NDArray[np.uint8],
    kept: Sequence[Rectangle] = (),
    found: Sequence[Rectangle] = (),
    *,
    blank: bool = False,
) -> NDArray[np.uint8]:
    """Return a frame that shows nothing unproven: what is kept as it is, all else as a mosaic, found text filled.

    Parameters
    ----------
    grey
        The frame, [rows, columns].
    kept
        Areas that are proven, upper bounds exclusive.
    found
        Where text was found.
    blank
        Whether what is not kept is black, as in the clean file, and not a mosaic.
    """
    masked = np.zeros_like(grey) if blank else _mosaic(grey)
    for x0, y0, x1, y1 in kept:
        masked[y0:y1, x0:x1] = grey[y0:y1, x0:x1]
    for x0, y0, x1, y1 in found:
        edge = max(_LEAST_EDGE, (y1 - y0) // 2)  # detectors draw their boxes tightly, or a little within the text
        masked[max(0, y0 - edge) : y1 + edge, max(0, x0 - edge) : x1 + edge] = 0
    return masked


def draw_thumbnail(
    frames: Sequence[Frame],
    kept: Sequence[Rectangle] = (),
    found: Sequence[Rectangle] = (),
    *,
    blank: bool = False,
) -> NDArray[np.uint8]:
    """Return frames one below the other in RGB, each masked by `mask_frame`, with the coordinates of the image at its edges.

    Kept areas have a green outline, found text a magenta one. Large frames are made smaller; the coordinates are those of the
    image.
    """
    return np.vstack([_sheet(frame, kept, found, blank=blank) for frame in frames])


def _mosaic(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = grey.shape
    block = max(_LEAST_BLOCK, -(-max(rows, columns) // _BLOCKS))
    padded = np.pad(grey, ((0, -rows % block), (0, -columns % block)), mode="edge")
    means = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block).mean(axis=(1, 3))
    step = 256 // _LEVELS
    coarse = (means // step * step).astype(np.uint8)
    return np.asarray(coarse.repeat(block, axis=0).repeat(block, axis=1)[:rows, :columns])


def _sheet(frame: Frame, kept: Sequence[Rectangle], found: Sequence[Rectangle], *, blank: bool) -> NDArray[np.uint8]:
    rows, columns = frame.grey.shape
    scale = min(1.0, _LONG_SIDE / max(rows, columns))
    masked = mask_frame(frame.grey, kept, found, blank=blank)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    picture = cv2.cvtColor(cv2.resize(masked, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
    for areas, colour in ((kept, _KEPT), (found, _FOUND)):
        for x0, y0, x1, y1 in areas:
            first, last = [(round(x * scale), round(y * scale)) for x, y in ((x0, y0), (x1 - 1, y1 - 1))]
            cv2.rectangle(picture, first, last, colour, 1)
    sheet = np.full((size[1] + _MARGIN, size[0] + _MARGIN, 3), _PAPER, np.uint8)
    sheet[_MARGIN:, _MARGIN:] = picture
    _write(sheet, f"#{frame.number}", (2, 14))
    for place in range(0, columns, _TICK):
        x = _MARGIN + round(place * scale)
        _write(sheet, str(place), (x, 26))
        cv2.line(sheet, (x, 30), (x, _MARGIN - 1), _INK)
    for place in range(0, rows, _TICK):
        y = _MARGIN + round(place * scale)
        _write(sheet, str(place), (2, y + 10))
        cv2.line(sheet, (30, y), (_MARGIN - 1, y), _INK)
    return sheet


def _write(sheet: NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, _INK, 1, cv2.LINE_AA)
