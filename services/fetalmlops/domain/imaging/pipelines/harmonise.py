"""Intensity harmonisation: every frame's sector gets the same distribution of grey levels, whatever scanner drew it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Harmonisation", "ScannerLevels", "harmonise"]

_WHITE = 255
_QUANTILES = tuple(number / 16 for number in range(17))


@dataclass(frozen=True, kw_only=True)
class ScannerLevels:
    """What is known of a scanner in advance.

    Parameters
    ----------
    scanner
        Its name, as given to `Pipeline.run`.
    levels
        Grey levels of its sectors at 17 even quantiles, increasing from 0 to 255.
    """

    scanner: str
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        _check(self.levels)


@dataclass(frozen=True, kw_only=True)
class Harmonisation:
    """How grey levels are brought to one distribution.

    Parameters
    ----------
    levels
        Wanted grey levels at 17 even quantiles, increasing from 0 to 255: by default near the Rayleigh-like distribution
        of log-compressed speckle.
    strength
        Share, 0 to 1, of the way to it.
    steepest
        Most grey levels, 1 to 255, that one level of the frame may become: what is nearly black stays dark, and noise in
        fluid and shadow does not turn into texture.
    black_level
        Highest grey level, 0 to 254, that is black: it stays so and does not count.
    scanners
        Levels of scanners that are known; all others, and by default each, are judged by the frame itself.
    """

    levels: tuple[int, ...] = (0, 29, 42, 52, 61, 69, 77, 85, 93, 102, 111, 120, 131, 143, 159, 183, 255)
    strength: float = 1.0
    steepest: float = 3.0
    black_level: int = 8
    scanners: tuple[ScannerLevels, ...] = ()

    def __post_init__(self) -> None:
        _check(self.levels)
        if not (0 <= self.strength <= 1 <= self.steepest <= _WHITE and 0 <= self.black_level < _WHITE):
            msg = "Expected a strength of 0 to 1, a steepness of 1 to 255, a black level below 255, got others; choose within"
            raise SettingsError(msg)


def harmonise(
    grey: NDArray[np.uint8], mask: NDArray[np.bool_], rule: Harmonisation, scanner: str = ""
) -> NDArray[np.uint8]:
    """Return a frame whose sector has the wanted grey levels; order among grey levels is kept.

    Parameters
    ----------
    grey
        ``uint8`` of [rows, columns].
    mask
        Its sector, [rows, columns]; what lies beside it does not count.
    rule
        The wanted levels.
    scanner
        Which scanner's levels to assume, where the rule knows them.

    Examples
    --------
    >>> ramp = np.tile(np.arange(20, 148, dtype=np.uint8), (64, 1))
    >>> bright = harmonise(ramp, np.ones_like(ramp, np.bool_), Harmonisation())
    >>> dim = harmonise(ramp // 4 * 3, np.ones_like(ramp, np.bool_), Harmonisation())
    >>> int(np.abs(bright.astype(int) - dim).mean()) < 5
    True
    """
    known = next((entry.levels for entry in rule.scanners if entry.scanner == scanner), None)
    table = _by_levels(known, rule) if known else _by_frame(grey, mask, rule)
    return grey if table is None else np.asarray(cv2.LUT(grey, table), np.uint8)


def _by_frame(grey: NDArray[np.uint8], mask: NDArray[np.bool_], rule: Harmonisation) -> NDArray[np.uint8] | None:
    counts = cv2.calcHist([grey], [0], mask.astype(np.uint8), [_WHITE + 1], [0, _WHITE + 1]).ravel().astype(np.float64)
    counts[: rule.black_level + 1] = 0
    total = counts.sum()
    if np.count_nonzero(counts) < 2:
        return None
    ranks = (counts.cumsum() - counts / 2) / total
    return _table(np.interp(ranks, _QUANTILES, rule.levels), rule)


def _by_levels(known: tuple[int, ...], rule: Harmonisation) -> NDArray[np.uint8]:
    return _table(np.interp(np.arange(_WHITE + 1), known, rule.levels), rule)


def _table(wanted: NDArray[np.float64], rule: Harmonisation) -> NDArray[np.uint8]:
    levels = np.arange(_WHITE + 1)
    mixed = (1 - rule.strength) * levels + rule.strength * wanted
    curve = np.where(levels <= rule.black_level, levels, mixed)
    slope = rule.steepest * levels
    return np.asarray(np.rint(np.minimum.accumulate(curve - slope) + slope), np.uint8)


def _check(levels: tuple[int, ...]) -> None:
    ends = len(levels) == len(_QUANTILES) and (levels[0], levels[-1]) == (0, _WHITE)
    if not ends or any(low >= high for low, high in pairwise(levels)):
        msg = f"Expected {len(_QUANTILES)} increasing grey levels from 0 to 255, got others; give one per sixteenth"
        raise SettingsError(msg)
