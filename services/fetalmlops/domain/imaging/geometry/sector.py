"""The shape of the ultrasound image within its box: the fan of a convex probe, the rectangle of a linear one, or neither."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import SectorShape
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.geometry.resize import fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sector", "SectorSearch", "find_sector"]

_SEARCH_SIDE = 256
_LEAST_SIDE = 24
_LEAST_EDGE = 8
_EDGE_ANGLES = (math.radians(12), math.radians(80))
_OPPOSITE = math.radians(14)
_LEAST_PART = 0.02
_FLAT = 1e-3
_STRAIGHT = 0.8
_RAGGED = 0.06
_OUTER, _NEAREST = (0.5, 99.5), 0.2  # percentiles
_WHITE = 255

Edge = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


@dataclass(frozen=True, kw_only=True)
class SectorSearch:
    """How the sector is searched for.

    Parameters
    ----------
    black_level
        Highest grey level, 0 to 254, that counts as black.
    least_agreement
        Least share, 0 to 1, of what is not black that a fitted shape must hold; below it the whole box counts.
    """

    black_level: int = 8
    least_agreement: float = 0.93

    def __post_init__(self) -> None:
        if not (0 <= self.black_level < _WHITE and 0 <= self.least_agreement <= 1):
            msg = "Expected a black level from 0 to 254 and an agreement from 0 to 1, got others; choose within these"
            raise SettingsError(msg)


@dataclass(frozen=True, kw_only=True)
class Sector:
    """The ultrasound image within a box of `rows` by `columns`; lengths in pixels of the box, angles in radians.

    Parameters
    ----------
    shape
        Its shape.
    rows, columns
        Size of the box.
    apex
        Row and column where the beams of a fan meet; the row is mostly above the box, so negative.
    angles
        Least and greatest angle of a fan's beams from straight down, positive to the right.
    radii
        Least and greatest distance of a fan from its apex.
    sides
        First and last column of a rectangle.
    outline
        Corners, row and column, of the convex area that holds the image where it is neither; none: all of the box.
    """

    shape: SectorShape
    rows: int
    columns: int
    apex: tuple[float, float] = (0.0, 0.0)
    angles: tuple[float, float] = (0.0, 0.0)
    radii: tuple[float, float] = (0.0, 0.0)
    sides: tuple[int, int] = (0, 0)
    outline: tuple[tuple[float, float], ...] = ()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels belong to it, [rows, columns]."""
        if self.shape is SectorShape.FAN:
            return _fan(self)
        if self.outline:
            return _within(self)
        mask = np.ones((self.rows, self.columns), np.bool_)
        if self.shape is SectorShape.RECTANGLE:
            mask[:, : self.sides[0]] = mask[:, self.sides[1] + 1 :] = False
        return mask

    def scaled(self, rows: int, columns: int) -> Sector:
        """Return the same sector in a box of another size; its aspect is taken from the columns."""
        factor = columns / self.columns
        # Pixel centres lie at whole numbers plus a half in both boxes.
        apex = tuple((value + 0.5) * factor - 0.5 for value in self.apex)
        left, right = (round((side + 0.5) * factor - 0.5) for side in self.sides)
        if self.sides[0] == 0:
            left = 0
        if self.sides[1] == self.columns - 1:
            right = columns - 1
        return Sector(
            shape=self.shape,
            rows=rows,
            columns=columns,
            apex=(apex[0], apex[1]),
            angles=self.angles,
            radii=(self.radii[0] * factor, self.radii[1] * factor),
            sides=(left, right),
            outline=tuple(((row + 0.5) * factor - 0.5, (column + 0.5) * factor - 0.5) for row, column in self.outline),
        )


def find_sector(frame: NDArray[np.uint8], search: SectorSearch | None = None) -> Sector:
    """Return the sector within a box that holds the image and little else.

    Text and calipers are too thin to survive the opening that comes first; shadows and fluid within the tissue are bridged
    by its convex hull; the straight edges of that hull give the apex.

    Parameters
    ----------
    frame
        Brightest levels of some frames, cropped to the box, ``uint8`` of [rows, columns].
    search
        How to search, None for the defaults.

    Examples
    --------
    >>> fan = Sector(shape=SectorShape.FAN, rows=200, columns=300, apex=(-60.0, 150.0), angles=(-0.6, 0.6), radii=(75.0, 255.0))
    >>> found = find_sector(fan.mask.astype(np.uint8) * 90)
    >>> found.shape.value, round(found.angles[1], 1), abs(found.apex[0] + 60) < 8
    ('fan', 0.6, True)
    """
    search = search or SectorSearch()
    rows, columns = frame.shape
    whole = Sector(shape=SectorShape.NONE, rows=rows, columns=columns)
    if min(rows, columns) < _LEAST_SIDE:
        return whole
    size = fitted(rows, columns, _SEARCH_SIDE)
    small = np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA))
    tissue = _large_areas(small > search.black_level)
    if tissue is None:
        return whole
    hull = _hull(tissue)
    for candidate in (_fit_fan(hull, tissue), _fit_rectangle(hull)):
        if candidate is not None and _agreement(candidate, hull) >= search.least_agreement:
            return candidate.scaled(rows, columns)
    return _outlined(hull).scaled(rows, columns)


def _large_areas(bright: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return where the large areas lie, None if there is none."""
    mask = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return None
    kept = 1 + np.flatnonzero(areas >= max(_LEAST_PART * areas.max(), 16))
    return np.isin(labels, kept)


def _hull(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    points = cv2.findNonZero(tissue.astype(np.uint8))
    filled = cv2.fillConvexPoly(np.zeros(tissue.shape, np.uint8), cv2.convexHull(points), 1)
    return np.asarray(filled, np.bool_)


def _edges(hull: NDArray[np.bool_]) -> tuple[Edge, Edge]:
    """Return rows and columns of the left and of the right edge above its widest row, the box's own borders left out."""
    left, right = _edge(hull), _edge(hull[:, ::-1])
    return left, (right[0], hull.shape[1] - 1 - right[1])


def _edge(hull: NDArray[np.bool_]) -> Edge:
    rows = np.flatnonzero(hull.any(axis=1))
    left = hull[rows].argmax(axis=1)
    kept = (left > 0) & (np.arange(len(rows)) <= left.argmin())
    return rows[kept].astype(np.float64), left[kept].astype(np.float64)


def _line(edge: Edge) -> tuple[float, float] | None:
    """Return column at row 0 and columns per row of the longest straight edge from the top; None if there is none."""
    for length in np.linspace(len(edge[0]), _LEAST_EDGE, 8).astype(int).tolist():
        rows, columns = edge[0][:length], edge[1][:length]
        if length < _LEAST_EDGE or len(rows) < _LEAST_EDGE:
            return None
        points = np.column_stack([columns, rows])[1:].astype(np.float32)
        across, down, column, row = cv2.fitLine(points, cv2.DIST_HUBER, 0, 0.01, 0.01).ravel().tolist()
        residuals = np.abs((points[:, 0] - column) * down - (points[:, 1] - row) * across)
        if abs(down) > _FLAT and np.percentile(residuals, 90) < _STRAIGHT:
            return column - row * across / down, across / down
    return None


def _fit_fan(hull: NDArray[np.bool_], tissue: NDArray[np.bool_]) -> Sector | None:
    edges = _edges(hull)
    lines = tuple(_line(edge) for edge in edges)
    if lines[0] is None or lines[1] is None:
        return None
    (left, left_slope), (right, right_slope) = lines[0], lines[1]
    angles = math.atan(left_slope), math.atan(right_slope)
    inside = all(_EDGE_ANGLES[0] <= abs(angle) <= _EDGE_ANGLES[1] for angle in angles)
    if not inside or angles[0] > 0 or angles[1] < 0 or abs(angles[0] + angles[1]) > _OPPOSITE:
        return None
    row = (right - left) / (left_slope - right_slope)
    column = left + left_slope * row
    y, x = np.nonzero(tissue)
    beam, radius = np.arctan2(x - column, y - row), np.hypot(y - row, x - column)
    # Where the upper parts of its sides are dark, the tissue below them shows that a fan is wider.
    outer = np.percentile(beam, _OUTER)
    angles = min(angles[0], float(outer[0])), max(angles[1], float(outer[1]))
    # The hull closes the hollow below the probe's face: the corners of the edges, not the middle, tell the least radius,
    # unless the screen cuts the face off and tissue lies nearer.
    starts = [math.hypot(edge[0][0] - row, edge[1][0] - column) for edge in edges]
    nearest = min(*starts, float(np.percentile(radius, _NEAREST)))
    # The box ends where the fan does, even where the deepest tissue is too dark to show it.
    reach = max(float(np.percentile(radius, 99.9)), hull.shape[0] - 1 - row)
    return Sector(
        shape=SectorShape.FAN,
        rows=hull.shape[0],
        columns=hull.shape[1],
        apex=(row, column),
        angles=angles,
        radii=(max(0.0, nearest - 1), reach + 1),
    )


def _fit_rectangle(hull: NDArray[np.bool_]) -> Sector | None:
    down = np.flatnonzero(hull.any(axis=1))
    upper = hull[down[: max(_LEAST_EDGE, len(down) // 4)]]
    left, right = (
        int(np.median(side)) for side in (upper.argmax(axis=1), hull.shape[1] - 1 - upper[:, ::-1].argmax(axis=1))
    )
    if np.ptp(upper.sum(axis=1)[2:]) > _RAGGED * upper.shape[1]:
        return None
    return Sector(shape=SectorShape.RECTANGLE, rows=hull.shape[0], columns=hull.shape[1], sides=(left, right))


def _agreement(sector: Sector, hull: NDArray[np.bool_]) -> float:
    """Return the share of what is not black that lies within a sector."""
    return float(np.count_nonzero(sector.mask & hull) / np.count_nonzero(hull))


def _outlined(hull: NDArray[np.bool_]) -> Sector:
    points = cv2.convexHull(cv2.findNonZero(cv2.dilate(hull.astype(np.uint8), np.ones((3, 3), np.uint8))))
    corners = tuple((float(row), float(column)) for column, row in points[:, 0].tolist())
    return Sector(shape=SectorShape.NONE, rows=hull.shape[0], columns=hull.shape[1], outline=corners)


def _within(sector: Sector) -> NDArray[np.bool_]:
    corners = np.rint([[column, row] for row, column in sector.outline]).astype(np.int32)
    return np.asarray(cv2.fillConvexPoly(np.zeros((sector.rows, sector.columns), np.uint8), corners, 1), np.bool_)


def _fan(sector: Sector) -> NDArray[np.bool_]:
    y = np.arange(sector.rows, dtype=np.float32)[:, None] - np.float32(sector.apex[0])
    x = np.arange(sector.columns, dtype=np.float32)[None, :] - np.float32(sector.apex[1])
    distance = y * y + x * x
    inside = (distance >= np.float32(sector.radii[0] ** 2)) & (distance <= np.float32(sector.radii[1] ** 2))
    left, right = (np.float32(math.tan(angle)) for angle in sector.angles)
    return inside & (y > 0) & (x >= left * y - 1) & (x <= right * y + 1)
