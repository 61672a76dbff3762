"""Quality figures of normalised frames, for drift monitoring and for refusing what cannot be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.events import Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["measure_quality"]

_WHITE = 255


def measure_quality(frames: NDArray[np.uint8], *, sector_share: float, overlay_share: float = 0.0) -> Quality:
    """Return the figures of some frames, medians over the frames.

    Parameters
    ----------
    frames
        Grey frames cropped to the sector, ``uint8`` of [frames, rows, columns].
    sector_share
        Share of the stored frame that the sector covers, 0 to 1.
    overlay_share
        Share of it that was removed as overlay, 0 to 1.

    Examples
    --------
    >>> quality = measure_quality(np.full((2, 32, 32), 51, np.uint8), sector_share=0.5)
    >>> quality.brightness, quality.contrast, quality.sharpness, quality.saturation
    (0.2, 0.0, 0.0, 0.0)
    """
    figures = np.array([_measure(frame) for frame in frames])
    brightness, contrast, sharpness, saturation = (_share(value) for value in np.median(figures, axis=0))
    return Quality(
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        saturation=saturation,
        sector_share=_share(sector_share),
        overlay_share=_share(overlay_share),
    )


def _measure(frame: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    mean, deviation = cv2.meanStdDev(frame)
    saturated = np.count_nonzero(frame == _WHITE) / frame.size
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
