"""Which images an epoch shows, in which order: a function of seed and epoch alone, so that it can be taken up anywhere."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.training.recipe import Balance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import ImageEntry

__all__ = ["image_weights", "order"]


def image_weights(images: Sequence[ImageEntry], balance: Balance) -> NDArray[np.float64]:
    """Return how often each image is drawn relative to the others, [images]; they sum to 1.

    With `Balance.SQRT` a class of four times the images is drawn twice as often, and so is a patient within a class. The
    sub-planes of the brain are classes of their own.

    Examples
    --------
    >>> image_weights([], Balance.SQRT)
    array([], dtype=float64)
    """
    if balance is Balance.NONE:
        return np.full(len(images), 1 / max(1, len(images)))
    kinds = [(image.plane, image.brain_plane) for image in images]
    patients = [(kind, image.patient) for kind, image in zip(kinds, images, strict=True)]
    of_kind, of_patient = Counter(kinds), Counter(patients)
    within = np.array([of_patient[patient] ** -0.5 for patient in patients], np.float64)
    weights = np.empty(len(images))
    for kind, count in of_kind.items():
        members = np.array([each == kind for each in kinds])
        weights[members] = count**0.5 * within[members] / within[members].sum()
    return np.asarray(weights / max(weights.sum(), 1e-12), np.float64)


def order(weights: NDArray[np.float64], count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the images of an epoch, [count].

    The draw is systematic: an image comes as often as its weight says, give or take one, and with equal weights and as
    many draws as images each comes once.

    Examples
    --------
    >>> sorted(order(np.full(4, 0.25), 4, seed=1, epoch=0).tolist())
    [0, 1, 2, 3]
    """
    rng = np.random.default_rng((seed, epoch))
    shuffled = rng.permutation(len(weights))
    edges = np.cumsum(weights[shuffled])
    places = (rng.random() + np.arange(count)) / count * edges[-1]
    drawn = shuffled[np.minimum(np.searchsorted(edges, places, side="right"), len(weights) - 1)]
    return np.asarray(rng.permutation(drawn), np.int64)
