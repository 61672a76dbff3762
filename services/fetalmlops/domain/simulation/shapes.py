"""Curves and poses in the plane of the scene: x to the right, y with depth, both in units of the imaging depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["UPRIGHT", "Points", "Pose", "arc", "blob", "ellipse", "segment", "tube"]

Points = np.ndarray[tuple[int, int], np.dtype[np.float64]]
"""Points of a curve, shape (n, 2), as (x, y)."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a structure lies: its own frame placed into the frame of the scene (or of a larger structure).

    Parameters
    ----------
    centre
        Origin of the structure's frame, as (x, y) of the outer frame.
    scale
        Length of one unit of the structure's frame.
    angle
        Rotation in radians, from x towards y.
    mirror
        Whether the structure's x axis is reversed before it is rotated.

    Examples
    --------
    >>> Pose(centre=(1.0, 2.0), scale=2.0, angle=np.pi / 2)([[1.0, 0.0]]).round(6).tolist()
    [[1.0, 4.0]]
    """

    centre: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    angle: float = 0.0
    mirror: bool = False
    _matrix: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        rows = np.array([[cosine, sine], [-sine, cosine]]) * self.scale
        object.__setattr__(self, "_matrix", np.diag([-1.0 if self.mirror else 1.0, 1.0]) @ rows)

    def __call__(self, points: ArrayLike) -> Points:
        """Return points of this frame in the outer frame."""
        placed: Points = np.asarray(points, np.float64) @ self._matrix + self.centre
        return placed


UPRIGHT = Pose()
"""The frame of the scene itself."""


def ellipse(
    centre: tuple[float, float] = (0.0, 0.0), axes: tuple[float, float] = (1.0, 1.0), angle: float = 0.0, n: int = 48
) -> Points:
    """Return `n` points of a closed ellipse with semi-axes `axes`, rotated by `angle` radians."""
    return arc(centre, axes, 0.0, 2 * np.pi * (1 - 1 / n), angle, n)


def arc(
    centre: tuple[float, float],
    axes: tuple[float, float],
    start: float,
    stop: float,
    angle: float = 0.0,
    n: int = 32,
) -> Points:
    """Return `n` points of an ellipse's arc from parameter angle `start` to `stop`, in radians."""
    t = np.linspace(start, stop, n)
    points = np.stack([axes[0] * np.cos(t), axes[1] * np.sin(t)], axis=1)
    return Pose(centre=centre, angle=angle)(points)


def blob(
    rng: np.random.Generator,
    centre: tuple[float, float],
    axes: tuple[float, float],
    angle: float = 0.0,
    roughness: float = 0.08,
    n: int = 48,
) -> Points:
    """Return an ellipse whose radius wavers smoothly by about the share `roughness`."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    orders = np.arange(2, 6)
    weights = rng.normal(0, roughness, orders.size) / np.sqrt(orders)
    phases = rng.uniform(0, 2 * np.pi, orders.size)
    radius = 1 + (weights[:, None] * np.cos(orders[:, None] * t + phases[:, None])).sum(axis=0)
    points = np.stack([axes[0] * radius * np.cos(t), axes[1] * radius * np.sin(t)], axis=1)
    return Pose(centre=centre, angle=angle)(points)


def segment(start: tuple[float, float], stop: tuple[float, float], bend: float = 0.0, n: int = 16) -> Points:
    """Return a line from `start` to `stop` that bows sideways by the share `bend` of its length."""
    a, b = np.asarray(start, np.float64), np.asarray(stop, np.float64)
    t = np.linspace(0, 1, n)[:, None]
    normal = np.array([-(b - a)[1], (b - a)[0]])
    points: Points = a + (b - a) * t + normal * (4 * bend * t * (1 - t))
    return points


def tube(axis: Points, width: ArrayLike) -> Points:
    """Return the outline of a tube around `axis`; `width` is one full width or one per point."""
    direction = np.gradient(axis, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-12
    offset = np.stack([-direction[:, 1], direction[:, 0]], axis=1) * (np.broadcast_to(width, len(axis))[:, None] / 2)
    outline: Points = np.concatenate([axis + offset, (axis - offset)[::-1]])
    return outline
