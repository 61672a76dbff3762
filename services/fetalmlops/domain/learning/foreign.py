"""Images that are no ultrasound, and how well a model's out-of-scope score tells them from those in scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import Decision
from fetalmlops.domain.learning.intervals import Estimate
from fetalmlops.domain.models.selective import clopper_pearson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.learning.intervals import Resampler

__all__ = ["Foreign", "foreign_figures", "foreign_images", "share_above"]


@dataclass(frozen=True)
class Foreign:
    """How one kind of foreign images fares.

    Parameters
    ----------
    images
        How many were made.
    flagged, accepted
        Share of them called out of scope, and share of them accepted, with the exact interval: no patient is behind them.
    auroc
        Probability that one of them scores higher than an image in scope.
    """

    images: int
    flagged: Estimate
    accepted: Estimate
    auroc: Estimate


def foreign_images(count: int, seed: int, rows: int = 300, columns: int = 400) -> dict[str, NDArray[np.uint8]]:
    """Return images that are no ultrasound, by kind, each ``uint8`` of [count, rows, columns]."""
    rng = np.random.default_rng(seed)
    return {
        "noise": rng.integers(0, 256, (count, rows, columns), dtype=np.uint8),
        "smooth noise": np.stack([_smooth(rng, rows, columns) for _ in range(count)]),
        "ramps": np.stack([_ramp(rng, rows, columns) for _ in range(count)]),
        "text": np.stack([_text(rng, rows, columns) for _ in range(count)]),
        "empty sector": np.stack([_empty_sector(rng, rows, columns) for _ in range(count)]),
    }


def foreign_figures(
    inside: NDArray[np.float64],
    outside: NDArray[np.float64],
    decisions: NDArray[np.str_],
    resampler: Resampler,
) -> Foreign:
    """Return how foreign images of one kind fare.

    Parameters
    ----------
    inside, outside
        Scores of the images in scope, [images], and of the foreign ones.
    decisions
        Decisions on the foreign images.
    resampler
        Draws the patients of the images in scope.
    """
    level = resampler.sampling.level
    return Foreign(
        len(outside),
        _share(decisions == Decision.OUT_OF_SCOPE, level),
        _share(decisions == Decision.ACCEPT, level),
        resampler.ratio(share_above(inside, outside), share=True),
    )


def share_above(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, per image in scope, the share of foreign ones that score higher, ties by half; the mean is the AUROC.

    Where there are no scores (NaN), there is no share.

    Examples
    --------
    >>> share_above(np.array([1.0, 2.0]), np.array([2.0, 3.0])).tolist()
    [1.0, 0.75]
    """
    if np.isnan(inside).any() or np.isnan(outside).any():
        return np.full(len(inside), np.nan)
    ordered = np.sort(outside)
    upto, below = (np.searchsorted(ordered, inside, side) for side in ("right", "left"))
    return np.asarray(1 - (upto + below) / (2 * len(outside)), np.float64)


def _share(hits: NDArray[np.bool_], level: float) -> Estimate:
    low, high = clopper_pearson(int(hits.sum()), len(hits), level)
    return Estimate(round(float(hits.mean()), 6), round(low, 6), round(high, 6), len(hits), 0)


def _smooth(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (8, 10), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC), np.uint8)


def _ramp(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = x * np.cos(angle) + y * np.sin(angle)
    return np.asarray(255 * (ramp - ramp.min()) / np.ptp(ramp), np.uint8)


def _text(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    image = np.zeros((rows, columns), np.uint8)
    for baseline in range(20, rows, 22):
        word = "".join(chr(code) for code in rng.integers(65, 91, int(rng.integers(5, 30))))
        cv2.putText(image, word, (5, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    return image


def _empty_sector(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    image = np.zeros((rows, columns), np.uint8)
    half = rng.uniform(25, 45)
    shade = int(rng.integers(20, 90))
    cv2.ellipse(image, (columns // 2, -rows // 10), (rows, rows), 90, -half, half, shade, -1)
    return image
