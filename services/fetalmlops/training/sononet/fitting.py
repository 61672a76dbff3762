"""Fitting heads and out-of-scope reference on some patients, and asking them about others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.models.ood import OodReference, fit_ood
from fetalmlops.training.sononet.heads import Head, Views, fit_head
from fetalmlops.training.sononet.network import BRAIN_GROUPS, PLANE_GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.training.sononet.features import Features
    from fetalmlops.training.sononet.images import Image
    from fetalmlops.training.sononet.recipe import Recipe

__all__ = ["Fitted", "LeftOut", "Material", "fit", "fit_ood_reference", "leave_out", "leave_out_distances"]


@dataclass(frozen=True, eq=False)
class Material:
    """All that is fitted on.

    Parameters
    ----------
    images
        The images.
    features
        Theirs, with copies.
    brain_prior
        Shares of the brain sub-planes where nothing is known of an image, [brain planes].
    views
        The published head.
    """

    images: Sequence[Image]
    features: Features
    brain_prior: NDArray[np.float64]
    views: Views

    @property
    def planes(self) -> NDArray[np.int64]:
        """Index of each image's plane."""
        return np.array([image.plane for image in self.images], np.int64)

    @property
    def brain_planes(self) -> NDArray[np.int64]:
        """Index of each image's brain sub-plane, `NO_LABEL` where it is not known."""
        return np.array([image.brain_plane for image in self.images], np.int64)

    @property
    def patients(self) -> NDArray[np.str_]:
        """Each image's patient; what precedes its number names the source."""
        return np.array([image.patient for image in self.images], np.str_)

    @property
    def sources(self) -> NDArray[np.str_]:
        """Each image's source."""
        return np.array([image.patient.partition(" ")[0] for image in self.images], np.str_)

    def of(self, chosen: NDArray[np.bool_]) -> Material:
        """Return that of the chosen images."""
        images = [image for image, wanted in zip(self.images, chosen, strict=True) if wanted]
        return Material(images, self.features.of(chosen), self.brain_prior, self.views)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Heads, and an out-of-scope reference whose scale is still 1."""

    head: Head
    brain_head: Head
    ood: OodReference


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What fits on all other patients say of each image.

    Parameters
    ----------
    logits, brain_logits
        [images, planes] and [images, brain planes].
    distances
        From the out-of-scope reference, [images].
    """

    logits: NDArray[np.float64]
    brain_logits: NDArray[np.float64]
    distances: NDArray[np.float64]


def fit(material: Material, recipe: Recipe) -> Fitted:
    """Fit on all of the material."""
    return Fitted(*_fit_heads(material, recipe), fit_ood_reference(material.features.pooled, recipe))


def leave_out(material: Material, recipe: Recipe) -> LeftOut:
    """Ask about each patient's images a fit on all others, images alone and not their copies."""
    count = len(material.images)
    logits, brain_logits = np.empty((count, len(PLANE_GROUPS))), np.empty((count, len(BRAIN_GROUPS)))
    for patient in np.unique(material.patients):
        out = material.patients == patient
        head, brain_head = _fit_heads(material.of(~out), recipe)
        left = material.features.embedding[out, 0]
        logits[out] = head.logits(material.views.odds(left, PLANE_GROUPS), left)
        brain_logits[out] = brain_head.logits(material.views.odds(left, BRAIN_GROUPS), left)
    return LeftOut(logits, brain_logits, leave_out_distances(material, recipe))


def leave_out_distances(material: Material, recipe: Recipe) -> NDArray[np.float64]:
    """Return each image's distance from a reference fitted on all other patients."""
    distances = np.empty(len(material.images))
    for patient in np.unique(material.patients):
        out = material.patients == patient
        reference = fit_ood_reference(material.features.pooled[~out], recipe)
        distances[out] = reference.distance(material.features.pooled[out, 0])
    return distances


def fit_ood_reference(pooled: NDArray[np.float32], recipe: Recipe) -> OodReference:
    """Fit one mean for all planes and sources: what differs between sources must count little, not much."""
    rows = pooled.reshape(-1, pooled.shape[-1])
    nothing = np.zeros(len(rows), np.int64)
    reference = fit_ood(rows, nothing, rows, shrinkage=recipe.ood_shrinkage)
    return OodReference(reference.means, reference.whitening, 1.0)


def _fit_heads(material: Material, recipe: Recipe) -> tuple[Head, Head]:
    embedding = material.features.embedding
    odds = material.views.odds(embedding, PLANE_GROUPS)
    head = fit_head(odds, embedding, material.planes, material.patients, strength=recipe.strength)
    return head, _fit_brain(material, recipe)


def _fit_brain(material: Material, recipe: Recipe) -> Head:
    """Fit the brain head on the few labels; where the views say nothing either, it says the prior."""
    labelled = material.brain_planes != NO_LABEL
    embedding = material.features.embedding[labelled]
    head = fit_head(
        material.views.odds(embedding, BRAIN_GROUPS),
        embedding,
        material.brain_planes[labelled],
        material.patients[labelled],
        strength=recipe.brain_strength,
        absent=0.0,
    )
    return head.shifted(np.log(material.brain_prior))
