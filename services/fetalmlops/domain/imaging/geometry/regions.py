"""Where in the frame the tissue lies, and how large a pixel is: from the dataset or from the pixels themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import FrameMode
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.faults import guarded
from fetalmlops.domain.imaging.geometry.resize import halve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

__all__ = ["Box", "Geometry", "Spacing", "find_content", "read_geometry"]

Spacing = tuple[float, float]
"""Size of a pixel, [row, column] in mm."""

_TWO_D, _TISSUE, _CENTIMETRES = 1, 1, 3  # PS3.3 C.8.5.5.1.1, C.8.5.5.1.2, C.8.5.5.1.15
_TRACES = {2: FrameMode.M_MODE, 3: FrameMode.SPECTRAL}  # PS3.3 C.8.5.5.1.1
_LEAST_SIDE = 16
_SEARCH_SIDE = 256
_LEAST_PART = 0.2
_STACKED, _CUT = 0.8, 0.1
_MM_PER_CM = 10.0


@dataclass(frozen=True, order=True)
class Box:
    """A rectangle of a frame in pixels; `bottom` and `right` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def crop(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return this part of a frame, a view."""
        return frame[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Geometry:
    """What a dataset says of its frames' geometry.

    Parameters
    ----------
    sector
        The largest 2-D tissue region, None if there is no valid one.
    spacing
        Size of a pixel within it, None if unknown.
    mode
        What a region beside the tissue shows: a trace over time makes the whole screen one; None if there is none.
    """

    sector: Box | None = None
    spacing: Spacing | None = None
    mode: FrameMode | None = None


def read_geometry(dataset: Dataset, rows: int, columns: int) -> Geometry:
    """Read the geometry from the Sequence of Ultrasound Regions (PS3.3 C.8.5.5), else from Pixel Spacing.

    Of several 2-D tissue regions, as where two images stand side by side, the largest counts, and among equal ones the first.
    Malformed regions count as absent: an image scaled after acquisition keeps regions that no longer fit it.

    Parameters
    ----------
    dataset
        The dataset.
    rows, columns
        Size of its frames in pixels.
    """
    regions, mode = _read_regions(dataset, rows, columns), _read_trace(dataset)
    if not regions:
        return Geometry(None, _read_pixel_spacing(dataset), mode)
    sector, spacing = max(regions, key=lambda region: region[0].area)
    return Geometry(sector, spacing or _read_pixel_spacing(dataset), mode)


def _read_regions(dataset: Dataset, rows: int, columns: int) -> list[tuple[Box, Spacing | None]]:
    try:
        with guarded("Expected regions that can be read, got malformed ones"):
            items = dataset.get("SequenceOfUltrasoundRegions") or []
            tissue = [item for item in items if (item.RegionSpatialFormat, item.RegionDataType) == (_TWO_D, _TISSUE)]
            boxes = [_read_box(item, rows, columns) for item in tissue]
            return [(box, _read_deltas(item)) for box, item in zip(boxes, tissue, strict=True) if box]
    except PermanentError:
        return []


def _read_trace(dataset: Dataset) -> FrameMode | None:
    try:
        with guarded("Expected regions that can be read, got malformed ones"):
            found = {item.get("RegionSpatialFormat") for item in dataset.get("SequenceOfUltrasoundRegions") or []}
    except PermanentError:
        return None
    return next((mode for code, mode in _TRACES.items() if code in found), None)


def _read_box(item: Dataset, rows: int, columns: int) -> Box | None:
    left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
    right, bottom = int(item.RegionLocationMaxX1) + 1, int(item.RegionLocationMaxY1) + 1
    # Bounds are inclusive, but some writers state the first pixel outside: one beyond the edge is forgiven.
    if right > columns + 1 or bottom > rows + 1:
        return None
    box = Box(top, left, min(bottom, rows), min(right, columns))
    return box if min(box.bottom - box.top, box.right - box.left) >= _LEAST_SIDE else None


def _read_deltas(item: Dataset) -> Spacing | None:
    if (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection")) != (_CENTIMETRES, _CENTIMETRES):
        return None
    return _spacing([float(item.PhysicalDeltaY) * _MM_PER_CM, float(item.PhysicalDeltaX) * _MM_PER_CM])


def _read_pixel_spacing(dataset: Dataset) -> Spacing | None:
    try:
        with guarded("Expected a Pixel Spacing of two numbers, got a malformed one"):
            return _spacing([float(value) for value in dataset.get("PixelSpacing") or ()])
    except PermanentError:
        return None


def _spacing(values: Sequence[float]) -> Spacing | None:
    # Deltas are signed where an axis runs the other way.
    row, column = (abs(value) for value in values) if len(values) == 2 else (0.0, 0.0)
    return (row, column) if all(math.isfinite(value) and value > 0 for value in (row, column)) else None


def find_content(frames: Sequence[NDArray[np.uint8]], black_level: int, layer_part: float = _LEAST_PART) -> Box:
    """Return the box around the largest connected areas that are not black in all of some frames.

    Parameters
    ----------
    frames
        Grey frames of one size, ``uint8`` of [rows, columns].
    black_level
        Highest grey level that counts as black, 0 to 254.
    layer_part
        Least share, 0 to 0.2, of the largest area that one above or below it must have to belong to it: fluid may part the
        tissue into layers of unlike size. One cut off by the edge of the screen needs the mean of that and 0.2 of these
        layers together; others, as writing makes them, 0.2.

    Examples
    --------
    >>> frame = np.zeros((120, 160), np.uint8)
    >>> frame[40:100, 20:140] = 90
    >>> frame[4:8, 4:8] = 255
    >>> find_content([frame], black_level=10)
    Box(top=40, left=20, bottom=100, right=140)
    """
    brightest = reduce(cv2.max, frames)
    rows, columns = brightest.shape
    small, step = brightest, 1
    while max(small.shape) > _SEARCH_SIDE:
        small, step = halve(small), 2 * step
    found = _largest_areas(small > black_level, layer_part)
    if found is None:
        return Box(0, 0, rows, columns)
    # The search is as coarse as its steps; the edges are then found at full resolution.
    top, left = max(0, (found.top - 1) * step), max(0, (found.left - 1) * step)
    rough = brightest[top : (found.bottom + 1) * step, left : (found.right + 1) * step]
    across = np.flatnonzero(rough.max(axis=0) > black_level)
    down = np.flatnonzero(rough.max(axis=1) > black_level)
    return Box(int(top + down[0]), int(left + across[0]), int(top + down[-1]) + 1, int(left + across[-1]) + 1)


def _is_cut(areas: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which areas the screen's edge cuts off along a tenth of it or more."""
    left, top, width, height, _ = areas.T
    beside = ((left <= 1) | (left + width >= shape[1] - 1)) & (height >= _CUT * shape[0])
    above = ((top <= 1) | (top + height >= shape[0] - 1)) & (width >= _CUT * shape[1])
    return np.asarray(beside | above)


def _largest_areas(bright: NDArray[np.bool_], layer_part: float) -> Box | None:
    # Closing joins speckle and the dark within the tissue, opening parts what hangs on it by thin lines, such as scales.
    mask = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, _, areas, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    found = areas[1:]  # the first one is the background
    if not len(found):
        return None
    # Fluid may part the tissue in two: what is not much smaller than the largest belongs to it, writing does not.
    sizes = found[:, cv2.CC_STAT_AREA]
    largest = found[sizes.argmax()]
    start, end = largest[cv2.CC_STAT_LEFT], largest[cv2.CC_STAT_LEFT] + largest[cv2.CC_STAT_WIDTH]
    lefts, widths = found[:, cv2.CC_STAT_LEFT], found[:, cv2.CC_STAT_WIDTH]
    shared = np.minimum(lefts + widths, end) - np.maximum(lefts, start)
    layers = (shared >= _STACKED * widths) & (sizes >= layer_part * sizes.max())
    # By default, a cut area needs no less than any other.
    cut = _is_cut(found, mask.shape) & (sizes >= (layer_part + _LEAST_PART) / 2 * sizes[layers].sum())
    left, top, width, height, _ = found[(sizes >= _LEAST_PART * sizes.max()) | layers | cut].T
    return Box(int(top.min()), int(left.min()), int((top + height).max()), int((left + width).max()))
