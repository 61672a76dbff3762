"""Graphics that a scanner has drawn over the image: calipers, dotted lines, writing. Found, and filled from their surround."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OverlayRemoval", "fill", "find_overlays"]

_WHITE = 255
_USUAL = 0.95
_BLACK = 8


@dataclass(frozen=True, kw_only=True)
class OverlayRemoval:
    """What counts as drawn, and how it is filled.

    Parameters
    ----------
    width
        Widest stroke in pixels, 1 to 15: what is at least as wide in both directions stays.
    core
        Least height, 1 to 255, of a stroke's middle above its surround.
    rim
        Least height of what belongs to a stroke whose middle is a core.
    brightest
        Least grey level of a core.
    surround
        Side in pixels, odd, of the area whose median fills a stroke.
    prominence
        Least ratio, 1 to 8, of a core's height to that of the frame's own tall speckle (its 95th percentile).
    """

    width: int = 5
    core: int = 80
    rim: int = 50
    brightest: int = 190
    surround: int = 15
    prominence: float = 3.3

    def __post_init__(self) -> None:
        levels = all(1 <= level <= _WHITE for level in (self.core, self.rim, self.brightest))
        if not (
            levels
            and 1 <= self.prominence <= 8
            and 1 <= self.width <= 15
            and self.width < self.surround <= 63
            and self.surround % 2
        ):
            msg = "Expected levels of 1 to 255, a width of 1 to 15 and a wider odd surround up to 63, got others; stay within"
            raise SettingsError(msg)


def find_overlays(grey: NDArray[np.uint8], rule: OverlayRemoval) -> NDArray[np.bool_]:
    """Return where graphics stand, [rows, columns], their blurred rims included.

    Speckle and bone are as bright, but never as thin: a scanner's point spread is wider than a stroke.

    Parameters
    ----------
    grey
        ``uint8`` of [rows, columns].
    rule
        What counts as drawn.
    """
    square = np.ones((rule.width, rule.width), np.uint8)
    height = cv2.subtract(grey, cv2.morphologyEx(grey, cv2.MORPH_OPEN, square))
    core = (height >= rule.core) & (grey >= rule.brightest)
    if core.any():  # what follows costs far more, and most frames have no candidate
        core &= (height >= _least_height(grey, height, rule)) & (_ridge(grey) >= rule.rim)
    if not core.any():
        return np.asarray(core, np.bool_)
    near = cv2.dilate(core.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    stroke = core | (near & (height >= rule.rim))
    return np.asarray(cv2.dilate(stroke.astype(np.uint8), np.ones((3, 3), np.uint8)), np.bool_)


def fill(grey: NDArray[np.uint8], where: NDArray[np.bool_], rule: OverlayRemoval) -> NDArray[np.uint8]:
    """Return a frame whose marked pixels are the median of what surrounds them; all others stay as they are.

    Parameters
    ----------
    grey
        ``uint8`` of [rows, columns].
    where
        What to fill, [rows, columns].
    rule
        How far the surround reaches.

    Examples
    --------
    >>> frame = np.full((40, 40), 70, np.uint8)
    >>> frame[20, 5:35] = 255
    >>> bool((fill(frame, find_overlays(frame, OverlayRemoval()), OverlayRemoval()) == 70).all())
    True
    """
    if not where.any():
        return grey
    # Strokes first sink to their opening, so that crowded ones do not pull the median up.
    square = np.ones((rule.width + 2, rule.width + 2), np.uint8)
    sunk = np.where(where, cv2.morphologyEx(grey, cv2.MORPH_OPEN, square), grey).astype(np.uint8)
    return np.where(where, cv2.medianBlur(sunk, rule.surround), grey).astype(np.uint8)


def _least_height(grey: NDArray[np.uint8], height: NDArray[np.uint8], rule: OverlayRemoval) -> float:
    """Return the height of a core: well above that of the frame's own speckle, which sharpening raises."""
    counts = (
        cv2.calcHist([height], [0], (grey > _BLACK).astype(np.uint8), [_WHITE + 1], [0, _WHITE + 1]).ravel().cumsum()
    )
    return max(rule.core, rule.prominence * int(np.searchsorted(counts, counts[-1] * _USUAL)))


def _ridge(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return how far each pixel stands above both of its neighbours two pixels away, in its steepest direction."""
    padded = cv2.copyMakeBorder(grey, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    rows, columns = grey.shape
    best = np.zeros_like(grey)
    for down, across in ((0, 2), (2, 0), (2, 2), (2, -2)):
        one = padded[2 + down : 2 + down + rows, 2 + across : 2 + across + columns]
        other = padded[2 - down : 2 - down + rows, 2 - across : 2 - across + columns]
        best = cv2.max(best, cv2.subtract(grey, cv2.max(one, other)))
    return np.asarray(best)
