"""Behaviour tests: changes of an image that must not change the answer, and one that must silence it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import Decision
from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval, fill, find_overlays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.intervals import Estimate, Resampler

    Change = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]

__all__ = ["BLANK", "CHANGES", "Behaviour", "behaviour_figures", "with_overlays", "without_overlays"]

BLANK: Final = "blank"
"""The change after which no answer may be accepted."""

_RULE: Final = OverlayRemoval()
_LEVELS: Final = np.arange(256, dtype=np.float64)


@dataclass(frozen=True)
class Behaviour:
    """How answers fare under a change.

    Parameters
    ----------
    kept
        Share of images whose answer holds: the same plane, or none that is accepted. For `BLANK`, none that is accepted.
    changed
        Share of images that get another plane, accepted or not.
    accepted
        Share of images that are still accepted.
    """

    kept: Estimate
    changed: Estimate
    accepted: Estimate


def brighter(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a screen at a gain of 3 dB more; black stays black."""
    del rng
    return _curve(screen, _LEVELS * 10 ** (3 / 20))


def darker(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a screen at a gain of 3 dB less."""
    del rng
    return _curve(screen, _LEVELS * 10 ** (-3 / 20))


def speckled(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a screen with more speckle: each pixel times a factor around 1, with a deviation of 0.15."""
    factors = rng.normal(1, 0.15, screen.shape[:2])
    if screen.ndim == 3:
        factors = factors[..., None]
    return np.asarray(np.clip(screen * factors, 0, 255), np.uint8)


def cropped(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a screen without up to a twentieth at each edge."""
    rows, columns = screen.shape[:2]
    top, bottom = rng.integers(0, max(1, rows // 20), 2)
    left, right = rng.integers(0, max(1, columns // 20), 2)
    return np.ascontiguousarray(screen[top : rows - bottom, left : columns - right])


def with_overlays(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a screen with a caliper's two crosses, its dotted line, and a word, all at random places of the middle."""
    marked = screen.copy()
    rows, columns = screen.shape[:2]
    near, far = ((int(rng.uniform(0.35, 0.65) * columns), int(rng.uniform(0.35, 0.65) * rows)) for _ in range(2))
    white = (255,) * (screen.shape[2] if screen.ndim == 3 else 1)
    for place in (near, far):
        cv2.drawMarker(marked, place, white, cv2.MARKER_CROSS, 13, 1)
    for step in np.linspace(0, 1, 20):
        dot = (round(near[0] + step * (far[0] - near[0])), round(near[1] + step * (far[1] - near[1])))
        cv2.circle(marked, dot, 0, white, -1)
    letters = "".join(chr(code) for code in rng.integers(65, 91, 5))
    cv2.putText(marked, letters, (near[0], max(12, near[1] - 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, white)
    return marked


def without_overlays(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the grey levels of a screen whose graphics are filled from their surround."""
    del rng
    grey = screen if screen.ndim == 2 else np.asarray(cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY), np.uint8)
    return fill(grey, find_overlays(grey, _RULE), _RULE)


def blank(screen: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a screen of the same size with one dark grey level."""
    del rng
    return np.full_like(screen, 16)


CHANGES: Final[Mapping[str, Change]] = {
    "gain +3 dB": brighter,
    "gain -3 dB": darker,
    "speckle": speckled,
    "crop": cropped,
    "overlays drawn": with_overlays,
    "overlays removed": without_overlays,
    BLANK: blank,
}
"""All changes by name."""


def behaviour_figures(
    name: str,
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    decisions: NDArray[np.str_],
    resampler: Resampler,
) -> Behaviour:
    """Return how answers fare under a change.

    Parameters
    ----------
    name
        The change.
    before, after
        Plane that the model names without and with it, [images].
    decisions
        Decision with it, [images].
    resampler
        Draws the images' patients.
    """
    accepted = decisions == Decision.ACCEPT
    kept = ~accepted if name == BLANK else (before == after) | ~accepted
    return Behaviour(resampler.ratio(kept), resampler.ratio(before != after), resampler.ratio(accepted))


def _curve(screen: NDArray[np.uint8], levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(cv2.LUT(screen, np.clip(levels, 0, 255).round().astype(np.uint8)), np.uint8)
