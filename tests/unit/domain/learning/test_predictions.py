"""Predictions hold outputs, labels and patients in the images' order."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import ImageEntry, Split
from fetalmlops.domain.learning.predictions import NO_LABEL, Predictions
from fetalmlops.domain.models.manifest import Calibration

BRAIN = ImageEntry(
    path="a.png",
    sha256="a" * 64,
    pixels="b" * 64,
    hash="0" * 16,
    patient="7",
    split=Split.TEST,
    plane=Plane.BRAIN,
    brain_plane=BrainPlane.TRANS_CEREBELLUM,
    rows=3,
    columns=4,
)
UNLABELLED = msgspec.structs.replace(BRAIN, plane=None, brain_plane=None, patient="8")


def predictions(planes: int = 6) -> Predictions:
    return Predictions(
        images=[BRAIN, UNLABELLED],
        logits=np.zeros((2, planes), np.float32),
        brain_logits=np.zeros((2, 4), np.float32),
        features=np.zeros((2, 3), np.float32),
        ood=np.zeros(2),
        contrast=np.ones(2),
        sharpness=np.ones(2),
        calibration=Calibration(),
    )


def test_labels_and_patients_follow_the_images() -> None:
    made = predictions()
    assert made.labels.tolist() == [1, NO_LABEL]
    assert made.brain_labels.tolist() == [1, NO_LABEL]
    assert made.patients.tolist() == ["7", "8"]
    assert made.probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert made.brain_probabilities[0].tolist() == [0.25] * 4


def test_outputs_of_other_images_are_refused() -> None:
    with pytest.raises(ContractError, match="Expected predictions of the shapes"):
        predictions(planes=5)
