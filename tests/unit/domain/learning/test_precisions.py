"""The gate of a precision: what it lets through, and what it names where it does not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.learning.intended_use import IntendedUse, parse_intended_use
from fetalmlops.domain.learning.manifest import ImageEntry, Split
from fetalmlops.domain.learning.precisions import judge_precision
from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.models.manifest import Calibration, DecisionRule
from fetalmlops.platform.learning.intended_use import packaged_intended_use

RULE = DecisionRule(accept=0.8, accept_brain=0.5)
PATIENTS = 60


@pytest.fixture(scope="module")
def use() -> IntendedUse:
    return parse_intended_use(packaged_intended_use())


def image(number: int, plane: Plane, patient: int) -> ImageEntry:
    return ImageEntry(
        path=str(number), sha256=f"{number:064x}", pixels=f"{number:064x}", hash="0" * 16, patient=f"p{patient}",
        split=Split.VALIDATION, plane=plane, brain_plane=BrainPlane.OTHER if plane is Plane.BRAIN else None,
        rows=9, columns=9,
    )  # fmt: skip


def predictions(*, patients: int = PATIENTS, moved: dict[str, int] | None = None, scale: float = 8.0) -> Predictions:
    """One image a plane of each patient, all right but the first `moved` of a plane, which are called by the next one."""
    images = [image(len(PLANES) * who + at, plane, who) for who in range(patients) for at, plane in enumerate(PLANES)]
    called = np.array([PLANES.index(each.plane) for each in images])
    for name, count in (moved or {}).items():
        of_plane = np.flatnonzero([each.plane == name for each in images])[:count]
        called[of_plane] = (called[of_plane] + 1) % len(PLANES)
    count = len(images)
    brain = np.zeros((count, len(BRAIN_PLANES)), np.float32)
    brain[:, BRAIN_PLANES.index(BrainPlane.OTHER)] = 9
    return Predictions(
        images=images,
        logits=(scale * np.eye(len(PLANES), dtype=np.float32))[called],
        brain_logits=brain,
        features=np.zeros((count, 2), np.float32),
        ood=np.zeros(count),
        contrast=np.ones(count),
        sharpness=np.ones(count),
        calibration=Calibration(),
    )


def test_a_precision_that_changes_nothing_passes(use: IntendedUse) -> None:
    gate = judge_precision(predictions(), predictions(scale=8.1), RULE, use)
    assert (gate.passed, gate.missed) == (True, [])
    assert (gate.images, gate.patients, gate.agreement, gate.decision_agreement) == (360, PATIENTS, 1, 1)
    assert 0.93 < gate.agreement_low < 1
    assert 0 < gate.largest_difference < 0.01


def test_the_plane_that_loses_most_is_named(use: IntendedUse) -> None:
    gate = judge_precision(predictions(), predictions(moved={"femur": 3}), RULE, use)
    assert (gate.worst_plane, gate.worst_plane_loss) == ("femur", 0.05)
    assert gate.missed == ["precision.plane_recall_loss"]
    assert not gate.passed
    allowed = msgspec.structs.replace(use, precision=msgspec.structs.replace(use.precision, plane_recall_loss=0.06))
    assert judge_precision(predictions(), predictions(moved={"femur": 3}), RULE, allowed).passed


def test_many_changes_miss_every_limit(use: IntendedUse) -> None:
    gate = judge_precision(predictions(), predictions(moved=dict.fromkeys(map(str, PLANES), 20)), RULE, use)
    assert set(gate.missed) == {
        "precision.agreement", "precision.agreement_bound", "precision.macro_f1_loss", "precision.plane_recall_loss",
    }  # fmt: skip


def test_less_confidence_misses_the_decisions_alone(use: IntendedUse) -> None:
    gate = judge_precision(predictions(), predictions(scale=2.0), RULE, use)
    assert gate.missed == ["precision.decision_agreement"]


def test_few_patients_and_planes_without_images_are_no_pass(use: IntendedUse) -> None:
    few = predictions(patients=20)
    assert judge_precision(few, few, RULE, use).missed == ["precision.agreement_bound"]
    known = predictions()
    unseen = [each for each in known.images if each.plane is not Plane.CERVIX]
    from fetalmlops.domain.learning.summary import part

    without = part(known, np.flatnonzero([each in unseen for each in known.images]))
    assert judge_precision(without, without, RULE, use).missed == ["images of cervix"]
