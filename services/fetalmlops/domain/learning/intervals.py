"""Intervals: how far a figure could lie from what was found, when the patients had been others.

Images of one patient are alike, so patients are drawn, never images: the clustered bootstrap (Field and Welsh, J. R. Stat.
Soc. B 69:369-390, 2007). Figures are functions of sums over images, and a replicate is another weight of each patient's
sums; so a thousand replicates are one matrix product.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.models.selective import clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["LEVEL", "Estimate", "Resampler", "Sampling", "bound_difference", "summarise"]

LEVEL: Final = 0.95
"""Confidence of intervals, unless another is asked for."""

_PART: Final = 100


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; None where it cannot be had from these images.

    Parameters
    ----------
    value
        The figure.
    low, high
        Bounds of its interval.
    images, patients
        How many it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    images: int
    patients: int


@dataclass(frozen=True)
class Sampling:
    """How intervals are made: draws of the bootstrap, their seed, and the intervals' confidence."""

    replicates: int = 1000
    seed: int = 0
    level: float = LEVEL


_USUAL: Final = Sampling()


class Resampler:
    """Draws patients with replacement, and sums what is known of their images.

    Parameters
    ----------
    patients
        Patient of each image, [images].
    sampling
        How intervals are made.

    Examples
    --------
    >>> resampler = Resampler(np.array(["a", "a", "b"]), Sampling(replicates=3))
    >>> resampler.sums(np.ones(3))[0], len(resampler.sums(np.ones(3)))
    (np.float64(3.0), 4)
    """

    def __init__(self, patients: NDArray[np.str_], sampling: Sampling = _USUAL) -> None:
        self.sampling = sampling
        names, self.index = np.unique(patients, return_inverse=True)
        self.patients = len(names)
        self.images = len(patients)
        self._order = np.argsort(self.index, kind="stable")
        self._starts = np.searchsorted(self.index[self._order], np.arange(self.patients))
        drawn = np.random.default_rng(sampling.seed).multinomial(
            self.patients, np.full(self.patients, 1 / self.patients), sampling.replicates
        )
        self.draws = np.concatenate([np.ones((1, self.patients)), drawn])

    def by_patient(self, values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the sums of `values`, [images, ...], over each patient's images, [patients, ...]."""
        return np.asarray(np.add.reduceat(values[self._order].astype(np.float64), self._starts, axis=0))

    def sums(self, values: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the sums of `values`, [images, ...], over all images, then over each replicate's, [1 + replicates, ...]."""
        each = self.by_patient(values)
        flat = self.draws @ each.reshape(self.patients, -1)
        return flat.reshape(len(self.draws), *each.shape[1:])

    def weights(self) -> Iterator[NDArray[np.float64]]:
        """Yield the weights of the images, [some draws, images], a part of the draws at a time; the first draw is all ones."""
        for start in range(0, len(self.draws), _PART):
            yield self.draws[start : start + _PART, self.index]

    def estimate(
        self,
        values: NDArray[np.float64],
        images: int | None = None,
        patients: int | None = None,
        *,
        share: bool = False,
    ) -> Estimate:
        """Return the estimate of a figure.

        Parameters
        ----------
        values
            The figure, then that of each replicate, [1 + replicates].
        images, patients
            How many it rests on; default: all.
        share
            Whether it lies between 0 and 1, and is 1 where no patient has a fault: its interval is then as that of `ratio`.
        """
        counts = (self.images if images is None else images, self.patients if patients is None else patients)
        estimate = summarise(values, *counts, self.sampling.level)
        return _widened(estimate, self.sampling.level) if share else estimate

    def ratio(
        self,
        hits: NDArray[np.floating] | NDArray[np.bool_],
        among: NDArray[np.bool_] | None = None,
        *,
        share: bool = False,
    ) -> Estimate:
        """Return the estimate of a mean over images.

        Where all or none of the images hit, no replicate differs from what was found: the interval of a share is then that
        of Clopper and Pearson over patients, not one of no width.

        Parameters
        ----------
        hits
            What is averaged, [images].
        among
            Over which images, [images]; default: all.
        share
            Whether it is a share between 0 and 1; truth values always are.
        """
        counted = np.ones(self.images, np.bool_) if among is None else among
        images, patients = int(counted.sum()), len(np.unique(self.index[counted]))
        with np.errstate(invalid="ignore"):
            estimate = summarise(self.sums(hits * counted) / self.sums(counted), images, patients, self.sampling.level)
        return _widened(estimate, self.sampling.level) if share or hits.dtype == np.bool_ else estimate


def bound_difference(estimate: Estimate, level: float = LEVEL) -> Estimate:
    """Return a difference of shares; where no patient differs from another, bounded by the share of patients who yet might.

    All patients may show no difference, or all the same: the replicates are then alike, and their interval has no width. Of
    patients who were not seen, a share up to the bound of Clopper and Pearson may have any difference from -1 to 1.

    Examples
    --------
    >>> bound_difference(Estimate(0.0, 0.0, 0.0, 40, 10))
    Estimate(value=0.0, low=-0.308497, high=0.308497, images=40, patients=10)
    >>> bound_difference(Estimate(1.0, 1.0, 1.0, 40, 10))
    Estimate(value=1.0, low=0.383006, high=1.0, images=40, patients=10)
    """
    value = estimate.value
    if value is None or (estimate.low, estimate.high) != (value, value):
        return estimate
    share = clopper_pearson(0, estimate.patients, level)[1]
    low, high = value - share * (1 + value), value + share * (1 - value)
    return Estimate(value, round(low, 6), round(high, 6), estimate.images, estimate.patients)


def summarise(values: NDArray[np.float64], images: int, patients: int, level: float = LEVEL) -> Estimate:
    """Return a figure and the percentile interval of its replicates.

    Parameters
    ----------
    values
        The figure, then that of each replicate, [1 + replicates]; replicates that are not numbers are left out.
    images, patients
        How many it rests on.
    level
        Confidence of the interval.

    Examples
    --------
    >>> summarise(np.array([0.5, 0.4, 0.6]), images=9, patients=3, level=0.5)
    Estimate(value=0.5, low=0.45, high=0.55, images=9, patients=3)
    """
    if not np.isfinite(values[0]):
        return Estimate(None, None, None, images, patients)
    tail = 50 * (1 - level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanpercentile(values[1:], [tail, 100 - tail])
    if not (np.isfinite(low) and patients > 1):
        return Estimate(round(float(values[0]), 6), None, None, images, patients)
    return Estimate(round(float(values[0]), 6), round(float(low), 6), round(float(high), 6), images, patients)


def _widened(estimate: Estimate, level: float) -> Estimate:
    if estimate.value not in (0.0, 1.0) or not estimate.patients:
        return estimate
    low, high = clopper_pearson(round(estimate.value) * estimate.patients, estimate.patients, level)
    return Estimate(estimate.value, round(low, 6), round(high, 6), estimate.images, estimate.patients)
