"""Geometry of the scan: beams in the scene, and the sector's place on a screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Area", "Probe", "Region", "Sector", "View"]

Area = tuple[int, int, int, int]
"""Part of a screen in pixels: x0, y0, x1, y1, upper bounds exclusive."""

Grid = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """An ultrasound region as PS3.3 C.8.5.5 describes it: bounds *inclusive*, physical deltas in centimetres.

    Parameters
    ----------
    x0, y0, x1, y1
        Region Location Min X0, Min Y0, Max X1, Max Y1: the corner pixels that belong to the region.
    delta_cm
        Physical Delta X and Y: size of a pixel, cm.
    reference
        Reference Pixel X0 and Y0: the centre of the probe's face, relative to the region's corner.
    convex
        Whether the beams diverge.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    delta_cm: float
    reference: tuple[int, int]
    convex: bool

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the region, to index an image with."""
        return slice(self.y0, self.y1 + 1), slice(self.x0, self.x1 + 1)


@dataclass(frozen=True, kw_only=True)
class Sector:
    """The shape that the beams cover, in units of the imaging depth.

    Parameters
    ----------
    radius
        Distance from the point where the beams meet to the probe's face; 0 means parallel beams (a linear probe).
    half_angle
        Half opening angle, radians (convex only).
    half_width
        Half width of the face (linear only).
    depth_mm
        Imaging depth, mm.
    """

    radius: float
    half_angle: float
    half_width: float
    depth_mm: float

    @property
    def convex(self) -> bool:
        """Whether the beams diverge."""
        return self.radius > 0

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Bounds of the sector: least x, least y, greatest x, greatest y."""
        if not self.convex:
            return -self.half_width, 0.0, self.half_width, 1.0
        reach = (1 + self.radius) * float(np.sin(min(self.half_angle, np.pi / 2)))
        return -reach, self.radius * (float(np.cos(self.half_angle)) - 1), reach, 1.0

    def beams(self, samples: int, count: int) -> Grid:
        """Return x and y of the samples of all beams, two float32 arrays of shape (samples, count)."""
        depth = np.linspace(0, 1, samples, dtype=np.float32)[:, None]
        if not self.convex:
            x = np.linspace(-self.half_width, self.half_width, count, dtype=np.float32)[None, :]
            return np.broadcast_to(x, (samples, count)).copy(), np.broadcast_to(depth, (samples, count)).copy()
        angle = np.linspace(-self.half_angle, self.half_angle, count, dtype=np.float32)[None, :]
        distance = depth + np.float32(self.radius)
        return distance * np.sin(angle), distance * np.cos(angle) - np.float32(self.radius)

    def locate(self, x: NDArray[np.float32], y: NDArray[np.float32], samples: int, count: int) -> Grid:
        """Return beam and sample numbers (fractional) of points: the inverse of `beams`."""
        if not self.convex:
            return (x / self.half_width + 1) * np.float32((count - 1) / 2), y * np.float32(samples - 1)
        distance, angle = cv2.cartToPolar(y + np.float32(self.radius), np.ascontiguousarray(x))
        angle -= (angle > np.pi) * np.float32(2 * np.pi)
        return (
            (angle / np.float32(self.half_angle) + 1) * np.float32((count - 1) / 2),
            (distance - np.float32(self.radius)) * np.float32(samples - 1),
        )


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe: the ranges from which a sector is drawn, whatever is being looked at.

    Parameters
    ----------
    radius
        Range of the face's radius as a share of the depth; (0, 0) for a linear probe.
    half_angle
        Range of half the opening angle, degrees.
    half_width
        Range of half the width of a linear face, as a share of the depth.
    depth_mm
        Range of the imaging depth, mm.
    megahertz
        Centre frequency, MHz.
    """

    radius: tuple[float, float] = (0.0, 0.0)
    half_angle: tuple[float, float] = (30.0, 40.0)
    half_width: tuple[float, float] = (0.4, 0.55)
    depth_mm: tuple[float, float] = (80.0, 160.0)
    megahertz: float = 5.0

    def aim(self, rng: np.random.Generator) -> Sector:
        """Draw a sector."""
        return Sector(
            radius=float(rng.uniform(*self.radius)),
            half_angle=float(np.radians(rng.uniform(*self.half_angle))),
            half_width=float(rng.uniform(*self.half_width)),
            depth_mm=float(round(rng.uniform(*self.depth_mm))),
        )


@dataclass(frozen=True, kw_only=True)
class View:
    """A sector on a screen.

    Parameters
    ----------
    sector
        What is shown.
    box
        Pixels that the sector's image may cover.
    scale
        Pixels for each unit of depth.
    origin
        Pixel (x, y) of the middle of the probe's face.
    """

    sector: Sector
    box: Area
    scale: float
    origin: tuple[float, float]

    @classmethod
    def fit(cls, sector: Sector, area: Area, zoom: float = 1.0, shift: float = 0.0) -> View:
        """Place a sector into an area.

        Parameters
        ----------
        sector
            What is shown.
        area
            Where the screen shows images.
        zoom
            1 fits the whole sector; more cuts off its sides or its depth, as sonographers do.
        shift
            Sideways shift as a share of the room that is left.
        """
        x0, y0, x1, y1 = area
        left, top, right, bottom = sector.extent
        scale = zoom * min((x1 - x0) / (right - left), (y1 - y0) / (bottom - top))
        room = max(0.0, (x1 - x0) - scale * (right - left))
        middle = (x0 + x1) / 2 + shift * room / 2
        origin = (middle, y0 - scale * top)
        box = (
            max(x0, int(np.floor(middle + scale * left))),
            max(y0, int(np.floor(origin[1] + scale * top))),
            min(x1, int(np.ceil(middle + scale * right)) + 1),
            min(y1, int(np.ceil(origin[1] + scale * bottom)) + 1),
        )
        return cls(sector=sector, box=box, scale=scale, origin=origin)

    def scaled(self, factor: float) -> View:
        """Return the same view on a screen smaller by a factor."""
        x0, y0, x1, y1 = (round(edge * factor) for edge in self.box)
        origin = (self.origin[0] * factor, self.origin[1] * factor)
        return View(sector=self.sector, box=(x0, y0, x1, y1), scale=self.scale * factor, origin=origin)

    @property
    def region(self) -> Region:
        """The region that a header gives for this view."""
        x0, y0, x1, y1 = self.box
        return Region(
            x0=x0,
            y0=y0,
            x1=x1 - 1,
            y1=y1 - 1,
            delta_cm=self.sector.depth_mm / 10 / self.scale,
            reference=(round(self.origin[0]) - x0, round(self.origin[1]) - y0),
            convex=self.sector.convex,
        )

    def lookup(self, samples: int, count: int) -> Grid:
        """Return, for each pixel of the box, the beam and sample that it shows."""
        x0, y0, x1, y1 = self.box
        x, y = _coarse(x0, x1, self.origin[0], self.scale), _coarse(y0, y1, self.origin[1], self.scale)
        shape = (y.size, x.size)
        coarse = self.sector.locate(np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape), samples, count)
        beams, depths = (_refined(grid, x1 - x0, y1 - y0) for grid in coarse)
        return beams, depths


_STEP = 4


def _coarse(start: int, stop: int, origin: float, scale: float) -> NDArray[np.float32]:
    """Return every fourth coordinate, one beyond each end: the lookup is smooth, so the rest can be interpolated."""
    count = -(-(stop - start) // _STEP) + 2
    pixels = start + _STEP * (np.arange(count) - 1) + (_STEP - 1) / 2
    return ((pixels - origin) / scale).astype(np.float32)


def _refined(grid: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    rows, columns = grid.shape
    fine = cv2.resize(grid, (columns * _STEP, rows * _STEP), interpolation=cv2.INTER_LINEAR)
    refined: NDArray[np.float32] = fine[_STEP : _STEP + height, _STEP : _STEP + width]
    return refined
