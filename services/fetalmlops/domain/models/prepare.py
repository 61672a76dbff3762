"""Preparation of normalised frames for one bundle's network: the same code in training and in serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.models.manifest import Fit, Levels
from fetalmlops.domain.models.screening import screen_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.manifest import InputSpec

__all__ = ["Placement", "Prepared", "fit_content", "place", "prepare"]

_FLAT = 1e-3
_WHITE = 255.0


@dataclass(frozen=True)
class Placement:
    """Where a frame lies in the network's input, in input pixels.

    Parameters
    ----------
    top, left
        First row and column of the frame's content.
    rows, columns
        Size of the content; black lies beside it.
    """

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class Prepared:
    """Frames ready for the network.

    Parameters
    ----------
    batch
        ``float32`` of [frames, input rows, input columns]; of the levels that the spec asks for.
    contrast
        Standard deviation of each frame's grey levels as a share of 255, [frames].
    sharpness
        Mean absolute difference of neighbouring grey levels as a share of 255, [frames].
    faults
        Why each frame cannot be judged, by `fetalmlops.domain.models.screening.screen_frame`.
    """

    batch: NDArray[np.float32]
    contrast: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    faults: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.contrast)


def place(rows: int, columns: int, spec: InputSpec) -> Placement:
    """Return where a frame of `rows` by `columns` lies in the input of `spec`.

    Examples
    --------
    >>> from fetalmlops.domain.models.manifest import InputSpec
    >>> place(400, 400, InputSpec(rows=128, columns=160))
    Placement(top=0, left=16, rows=128, columns=128)
    """
    if spec.fit is Fit.STRETCH:
        return Placement(0, 0, spec.rows, spec.columns)
    scale = min(spec.rows / rows, spec.columns / columns)
    height = min(spec.rows, max(1, round(rows * scale)))
    width = min(spec.columns, max(1, round(columns * scale)))
    return Placement((spec.rows - height) // 2, (spec.columns - width) // 2, height, width)


def fit_content(frame: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Return a frame, [rows, columns], at the size that it has in the input of `spec`: `prepare` gives the same for both."""
    placement = place(frame.shape[0], frame.shape[1], spec)
    return _resize(frame, placement.rows, placement.columns)


def prepare(frames: NDArray[np.uint8], spec: InputSpec) -> Prepared:
    """Resize frames, and bring them to the levels that the network takes.

    Standardisation, where it is asked for, is per frame and over its content only, so that the black beside it changes nothing.

    Parameters
    ----------
    frames
        Grey frames of one size, ``uint8`` of [frames, rows, columns].
    spec
        Input of the network.

    Examples
    --------
    >>> from fetalmlops.domain.models.manifest import InputSpec
    >>> frames = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64)
    >>> prepared = prepare(frames, InputSpec(rows=32, columns=48))
    >>> prepared.batch.shape, bool(abs(prepared.batch[0, :, 8:40].mean()) < 1e-5)
    ((1, 32, 48), True)
    """
    placement = place(frames.shape[1], frames.shape[2], spec)
    batch = np.empty((len(frames), spec.rows, spec.columns), np.float32)
    contrast, sharpness = np.empty((2, len(frames)), np.float64)
    for index, frame in enumerate(frames):
        content = _resize(frame, placement.rows, placement.columns)
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(content))
        shift, gain = (0.0, 1 / _WHITE) if spec.levels is Levels.UNIT else (mean, 1 / max(deviation, _FLAT))
        batch[index] = -shift * gain
        rows = slice(placement.top, placement.top + placement.rows)
        columns = slice(placement.left, placement.left + placement.columns)
        batch[index, rows, columns] = (content - np.float32(shift)) * np.float32(gain)
        contrast[index] = deviation / _WHITE
        sharpness[index] = cv2.norm(content[:, 1:], content[:, :-1], cv2.NORM_L1) / content[:, 1:].size / _WHITE
    return Prepared(batch, contrast, sharpness, tuple(screen_frame(frame) for frame in frames))


def _resize(frame: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    # Halving by 2x2 means until less than a factor 2 remains keeps the linear resize free of aliasing, and both have
    # vectorised code where INTER_AREA with an uneven factor has none.
    while frame.shape[0] >= 2 * rows and frame.shape[1] >= 2 * columns:
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = cv2.resize(frame[: half[1] * 2, : half[0] * 2], half, interpolation=cv2.INTER_AREA)
    if frame.shape == (rows, columns):
        return frame
    return np.asarray(cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
