"""What a model said of a data set: the one thing that every metric, plot, gate and comparison is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.calibration import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.models.manifest import Calibration

__all__ = ["NO_LABEL", "Predictions"]

NO_LABEL: Final = -100
"""Index of a label that is not there; losses and metrics leave it out."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Outputs of one model on images, in the images' order.

    Parameters
    ----------
    images
        The images.
    logits, brain_logits
        Logits before the temperature, ``float32`` of [images, planes] and [images, brain planes]; those of the brain have no
        column where the model tells no sub-plane.
    features
        Pooled features for the out-of-scope score, ``float32`` of [images, features].
    ood
        Out-of-scope score, [images]; 1 is the limit, NaN where the model has none.
    contrast, sharpness
        Figures of the prepared frames, [images].
    calibration
        Temperatures of the model.
    faults
        Why each image cannot be judged, as `fetalmlops.domain.models.prepare.Prepared` says; empty for none.
    """

    images: Sequence[ImageEntry]
    logits: NDArray[np.float32]
    brain_logits: NDArray[np.float32]
    features: NDArray[np.float32]
    ood: NDArray[np.float64]
    contrast: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    calibration: Calibration
    faults: Sequence[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        brain = len(BRAIN_PLANES) if self.brain_logits.shape[1:] != (0,) else 0
        expected = {"logits": (count, len(PLANES)), "brain_logits": (count, brain), "ood": (count,)}
        found = {name: getattr(self, name).shape for name in expected}
        if found != expected:
            msg = f"Expected predictions of the shapes {expected}, got {found}; run the model on the same images"
            raise ContractError(msg, reason="predictions")

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Calibrated probabilities of the planes, [images, planes]."""
        return softmax(self.logits, self.calibration.temperature)

    @cached_property
    def brain_probabilities(self) -> NDArray[np.float64]:
        """Calibrated probabilities of the brain sub-planes, given a brain, [images, brain planes]; no column without them."""
        if not self.brain_logits.shape[1]:
            return self.brain_logits.astype(np.float64)
        return softmax(self.brain_logits, self.calibration.brain_temperature)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Index of each image's plane, [images]; `NO_LABEL` where there is none."""
        return np.array(
            [NO_LABEL if image.plane is None else PLANES.index(image.plane) for image in self.images], np.int64
        )

    @cached_property
    def brain_labels(self) -> NDArray[np.int64]:
        """Index of each image's brain sub-plane, [images]; `NO_LABEL` where there is none."""
        return np.array(
            [NO_LABEL if image.brain_plane is None else BRAIN_PLANES.index(image.brain_plane) for image in self.images],
            np.int64,
        )

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """Each image's patient, [images]: the clusters of every interval."""
        return np.array([image.patient for image in self.images], np.str_)
