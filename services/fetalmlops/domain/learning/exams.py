"""Figures of whole examinations: which planes a patient's images are said to hold, and whether that is so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.contracts.planes import PLANES, Plane
from fetalmlops.domain.learning.intervals import Estimate
from fetalmlops.domain.models.selective import clopper_pearson

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ExamFigures", "exam_figures", "proportion"]


@dataclass(frozen=True)
class ExamFigures:
    """How examinations fare in one plane; each patient's images are one.

    Parameters
    ----------
    false_missing
        Share of the examinations with the plane in which no image is called so.
    false_present
        Share of the examinations without it in which an image is called so.
    """

    false_missing: Estimate
    false_present: Estimate


def exam_figures(
    labels: NDArray[np.int64], called: NDArray[np.int64], counted: NDArray[np.bool_], patients: NDArray[np.intp]
) -> dict[str, ExamFigures]:
    """Return how examinations fare, by plane; ``other`` is no plane that could be missing.

    Parameters
    ----------
    labels, called
        Plane of each image, and the plane that the model named, [images].
    counted
        Whether what the model named counts, [images]: all of it, or only what it accepts.
    patients
        Number of each image's patient, [images].

    Examples
    --------
    >>> brain, thorax = PLANES.index(Plane.BRAIN), PLANES.index(Plane.THORAX)
    >>> labels, called = np.array([brain, thorax]), np.array([thorax, thorax])
    >>> figures = exam_figures(labels, called, np.ones(2, bool), np.array([0, 1]))["brain"]
    >>> figures.false_missing.value, figures.false_present.value
    (1.0, 0.0)
    """
    figures = {}
    for index, plane in enumerate(PLANES):
        if plane is Plane.OTHER:
            continue
        present = np.bincount(patients, labels == index) > 0
        said = np.bincount(patients, (called == index) & counted) > 0
        figures[plane.value] = ExamFigures(
            proportion(int((present & ~said).sum()), int(present.sum())),
            proportion(int((~present & said).sum()), int((~present).sum())),
        )
    return figures


def proportion(hits: int, patients: int) -> Estimate:
    """Return a share of patients with its exact interval; `Estimate.images` is 0, for no image is counted."""
    if not patients:
        return Estimate(None, None, None, 0, 0)
    low, high = clopper_pearson(hits, patients)
    return Estimate(round(hits / patients, 6), round(low, 6), round(high, 6), 0, patients)
