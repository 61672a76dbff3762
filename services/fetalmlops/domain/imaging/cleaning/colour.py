"""Colour Doppler: where a frame is coloured, and grey levels that a colour box does not outshine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ColourFlow", "find_colour", "is_coloured", "without_colour"]

_WHITE = 255


@dataclass(frozen=True, kw_only=True)
class ColourFlow:
    """When a pixel counts as coloured, and a frame as colour Doppler.

    Parameters
    ----------
    chroma
        Least distance, 1 to 255, between a pixel's strongest and weakest channel; tinted grey maps stay well below 64.
    opening
        Side, in pixels, of the smallest coloured area that is flow: thinner ones, such as coloured writing, are graphics.
    least_share
        Least share of the sector, 0 to 1, that such areas cover in colour Doppler.
    """

    chroma: int = 64
    opening: int = 7
    least_share: float = 0.002

    def __post_init__(self) -> None:
        if not (1 <= self.chroma <= _WHITE and 1 <= self.opening <= 31 and 0 <= self.least_share <= 1):
            msg = "Expected a chroma of 1 to 255, an opening of 1 to 31 and a share of 0 to 1, got others; stay within these"
            raise SettingsError(msg)


def find_colour(rgb: NDArray[np.uint8], rule: ColourFlow) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a frame shows flow, and where it is coloured otherwise, two masks of [rows, columns].

    Parameters
    ----------
    rgb
        ``uint8`` of [rows, columns, 3].
    rule
        What counts as coloured.

    Examples
    --------
    >>> frame = np.full((40, 40, 3), 60, np.uint8)
    >>> frame[10:30, 10:30] = (250, 40, 0)
    >>> frame[2, 5:30] = (255, 255, 0)
    >>> flow, graphics = find_colour(frame, ColourFlow())
    >>> int(flow.sum()), int(graphics.sum())
    (400, 25)
    """
    coloured = (_chroma(rgb) >= rule.chroma).astype(np.uint8)
    square = np.ones((rule.opening, rule.opening), np.uint8)
    flow = cv2.morphologyEx(coloured, cv2.MORPH_OPEN, square).astype(np.bool_)
    return flow, coloured.astype(np.bool_) & ~flow


def is_coloured(rgb: NDArray[np.uint8], rule: ColourFlow) -> bool:
    """Return whether any pixel of a frame, ``uint8`` of [rows, columns, 3], is coloured."""
    return int(_chroma(rgb).max()) >= rule.chroma


def without_colour(grey: NDArray[np.uint8], rgb: NDArray[np.uint8], flow: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return grey levels that take the weakest channel where there is flow: what lies beneath, never brighter than it.

    Parameters
    ----------
    grey
        Grey levels of the frame, ``uint8`` of [rows, columns].
    rgb
        The same frame in colour, ``uint8`` of [rows, columns, 3].
    flow
        Where it shows flow, [rows, columns].
    """
    red, green, blue = cv2.split(rgb)
    return np.where(flow, cv2.min(cv2.min(red, green), blue), grey).astype(np.uint8)


def _chroma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = cv2.split(rgb)
    strongest = cv2.max(cv2.max(red, green), blue)
    return np.asarray(cv2.subtract(strongest, cv2.min(cv2.min(red, green), blue)))
