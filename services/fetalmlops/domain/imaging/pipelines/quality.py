"""Quality figures of normalised frames, for drift monitoring and for refusing what cannot be judged."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.events import Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["measure_quality"]

_WHITE = 255
_BLANK_CONTRAST, _BLANK_BRIGHTNESS = 0.012, 0.008  # three and two grey levels


def measure_quality(
    frames: NDArray[np.uint8],
    *,
    sector_share: float,
    overlay_share: float = 0.0,
    colour_share: float = 0.0,
    within: NDArray[np.bool_] | None = None,
) -> Quality:
    """Return the figures of some frames, medians over the frames.

    Parameters
    ----------
    frames
        Grey frames cropped to the sector, ``uint8`` of [frames, rows, columns].
    sector_share
        Share of the stored frame that the sector covers, 0 to 1.
    overlay_share
        Share of the sector that was removed as overlay, 0 to 1.
    colour_share
        Share of the sector that shows colour flow, 0 to 1.
    within
        The sector, [rows, columns]: brightness, contrast and saturation are taken within it; None for all.

    Examples
    --------
    >>> quality = measure_quality(np.full((2, 32, 32), 51, np.uint8), sector_share=0.5)
    >>> quality.brightness, quality.contrast, quality.sharpness, quality.saturation
    (0.2, 0.0, 0.0, 0.0)
    """
    mask = None if within is None or not within.any() else within.astype(np.uint8)
    figures = [_measure(frame, mask) for frame in frames]
    brightness, contrast, sharpness, saturation = (_share(median(column)) for column in zip(*figures, strict=True))
    blank = sum(each[1] < _BLANK_CONTRAST or each[0] < _BLANK_BRIGHTNESS for each in figures) / len(figures)
    return Quality(
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        saturation=saturation,
        sector_share=_share(sector_share),
        overlay_share=_share(overlay_share),
        colour_share=_share(colour_share),
        blank_share=_share(blank),
    )


def _measure(frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> tuple[float, float, float, float]:
    mean, deviation = cv2.meanStdDev(frame, mask=mask)
    white = cv2.inRange(frame, _WHITE, _WHITE)
    seen, size = (
        (white, frame.size) if mask is None else (cv2.bitwise_and(white, white, mask=mask), np.count_nonzero(mask))
    )
    saturated = cv2.countNonZero(seen) / size
    return mean.item() / _WHITE, deviation.item() / _WHITE, _gradient(frame) / _WHITE, saturated


def _gradient(frame: NDArray[np.uint8]) -> float:
    """Return the mean magnitude of the gradient by central differences, grey levels per pixel."""
    if min(frame.shape) < 3:
        return 0.0
    across = cv2.absdiff(frame[1:-1, 2:], frame[1:-1, :-2]).astype(np.float32)
    down = cv2.absdiff(frame[2:, 1:-1], frame[:-2, 1:-1]).astype(np.float32)
    return float(cv2.mean(cv2.magnitude(across, down))[0]) / 2


def _share(value: float) -> float:
    # Six digits are far more than the figures mean, and the same on every processor.
    return round(min(1.0, max(0.0, float(value))), 6)
