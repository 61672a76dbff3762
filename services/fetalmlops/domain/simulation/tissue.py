"""The scene that is scanned: echogenicity and attenuation, painted in units of the imaging depth."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fetalmlops.domain.simulation.shapes import Points

__all__ = ["BONE", "FLUID", "INTERFACE", "SOFT", "Tissue"]

FLUID = -62.0
"""Echogenicity of fluid, in decibels below bright soft tissue."""
SOFT = -20.0
"""Echogenicity of common soft tissue, dB."""
INTERFACE = -4.0
"""Echogenicity of a bright interface such as a vessel's wall, dB."""
BONE = 12.0
"""Echogenicity of a bone's surface, dB."""

_PX = 256
_LEFT, _TOP = -1.0, -0.2
_SHAPE = (int(1.3 * _PX), int(2.0 * _PX))
_DB_STEP, _DB_LOWEST = 0.4, -80.0
_LOSS_STEP, _LOSS_LOWEST = 8.0, -128.0
_SHIFT = 4
_ECHO_DECIBELS = (np.arange(256) * _DB_STEP + _DB_LOWEST).astype(np.float32)
_LOSS_DECIBELS = (np.arange(256) * _LOSS_STEP + _LOSS_LOWEST).astype(np.float32)


class Tissue:
    """Echogenicity (dB) and excess attenuation (dB for each unit of depth) on one grid; later paint covers earlier.

    The scene spans x from -1 to 1 and y (depth) from -0.2 to 1.1; the probe's face touches (0, 0).

    Parameters
    ----------
    background
        Echogenicity of the unpainted scene, dB.

    Examples
    --------
    >>> from fetalmlops.domain.simulation.shapes import ellipse
    >>> tissue = Tissue(background=FLUID)
    >>> tissue.fill(ellipse((0, 0.5), (0.2, 0.2)), SOFT)
    >>> echo, loss = tissue.sample(np.float32([[0.0, 0.9]]), np.float32([[0.5, 0.5]]))
    >>> echo.round().tolist(), loss.tolist()
    ([[-20.0, -62.0]], [[0.0, 0.0]])
    """

    def __init__(self, background: float = SOFT) -> None:
        self._echo = np.full(_SHAPE, _echo_level(background), np.uint8)
        self._loss = np.full(_SHAPE, _loss_level(0.0), np.uint8)

    def fill(self, outline: Points, echo: float, loss: float = 0.0) -> None:
        """Paint the inside of a closed outline."""
        self.fill_all([outline], echo, loss)

    def fill_all(self, outlines: Iterable[Points], echo: float, loss: float = 0.0) -> None:
        """Paint the inside of several outlines alike."""
        polygons = [_fixed_point(outline) for outline in outlines]
        cv2.fillPoly(self._echo, polygons, _echo_level(echo), cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(self._loss, polygons, _loss_level(loss), cv2.LINE_8, _SHIFT)

    def stroke(
        self,
        curve: Points,
        width: float,
        echo: float,
        loss: float = 0.0,
        *,
        specular: float = 0.0,
        closed: bool = False,
    ) -> None:
        """Paint along a curve.

        Parameters
        ----------
        curve
            Points of the curve.
        width
            Full width, in units of depth.
        echo, loss
            What is painted.
        specular
            Decibels that are lost where the curve runs along the beam: a smooth surface answers best when hit squarely.
        closed
            Whether the last point joins the first.
        """
        thickness = max(1, round(width * _PX))
        points = np.concatenate([curve, curve[:1]]) if closed else curve
        if loss:
            path = _fixed_point(points)
            cv2.polylines(self._loss, [path], False, _loss_level(loss), thickness, cv2.LINE_8, _SHIFT)
        if not specular:
            path = _fixed_point(points)
            cv2.polylines(self._echo, [path], False, _echo_level(echo), thickness, cv2.LINE_AA, _SHIFT)
            return
        levels = _echo_levels(echo - specular * (1 - _squareness(points)))
        path = _fixed_point(points)
        changes = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist(), levels.size]
        for start, stop in pairwise(changes):
            piece, level = path[start : stop + 1], int(levels[start])
            cv2.polylines(self._echo, [piece], False, level, thickness, cv2.LINE_AA, _SHIFT)

    def dots(self, centres: Points, radius: float, echo: float, loss: float = 0.0) -> None:
        """Paint discs of one radius."""
        for centre in _fixed_point(centres).tolist():
            size = max(1 << _SHIFT, round(radius * _PX * (1 << _SHIFT)))
            cv2.circle(self._echo, centre, size, _echo_level(echo), -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(self._loss, centre, size, _loss_level(loss), -1, cv2.LINE_8, _SHIFT)

    def sample(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return echogenicity (dB) and excess attenuation (dB for each unit of depth) at points of the scene.

        Parameters
        ----------
        x, y
            Coordinates, float32 arrays of one shape.
        """
        columns, rows = (x - _LEFT) * _PX, (y - _TOP) * _PX
        echo = cv2.remap(self._echo, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        loss = cv2.remap(self._loss, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.LUT(echo, _ECHO_DECIBELS), cv2.LUT(loss, _LOSS_DECIBELS)


def _echo_level(decibels: float) -> int:
    return min(255, max(0, round((decibels - _DB_LOWEST) / _DB_STEP)))


def _echo_levels(decibels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return levels in steps of 2 dB, so that neighbours along a curve can be painted in one stroke."""
    levels = np.rint((decibels - _DB_LOWEST) / 2.0) * (2.0 / _DB_STEP)
    return np.clip(levels, 0, 255).astype(np.int64)


def _loss_level(decibels: float) -> int:
    return min(255, max(0, round((decibels - _LOSS_LOWEST) / _LOSS_STEP)))


def _fixed_point(points: Points) -> NDArray[np.int32]:
    return np.rint((points - (_LEFT, _TOP)) * (_PX * (1 << _SHIFT))).astype(np.int32)


def _squareness(points: Points) -> NDArray[np.float64]:
    """How squarely beams from a source behind the face hit each piece of a curve: 1 squarely, 0 along it."""
    along = np.diff(points, axis=0)
    beam = (points[:-1] + points[1:]) / 2 - (0.0, -0.6)
    dot = (along * beam).sum(axis=1)
    squareness: NDArray[np.float64] = 1 - dot * dot / ((along * along).sum(axis=1) * (beam * beam).sum(axis=1) + 1e-12)
    return squareness
