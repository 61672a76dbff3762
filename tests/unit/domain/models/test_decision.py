from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Decision, Plane
from fetalmlops.domain.models.decision import decide, decision_digest, least_confidence
from fetalmlops.domain.models.manifest import DecisionRule

RULE = DecisionRule(accept=0.8, accept_brain=0.7, ood_limit=1.0, least_contrast=0.05)


@pytest.mark.parametrize(
    ("plane", "confidence", "brain", "ood", "contrast", "decision", "reasons"),
    [
        (Plane.FEMUR, 0.9, 0.1, 0.5, 0.2, Decision.ACCEPT, ()),
        (Plane.FEMUR, 0.8, 0.1, 1.0, 0.05, Decision.ACCEPT, ()),
        (Plane.FEMUR, 0.79, 0.1, 0.5, 0.2, Decision.REVIEW, ("confidence",)),
        (Plane.BRAIN, 0.9, 0.69, 0.5, 0.2, Decision.REVIEW, ("brain-plane",)),
        (Plane.BRAIN, 0.5, 0.5, 0.5, 0.2, Decision.REVIEW, ("confidence", "brain-plane")),
        (Plane.FEMUR, 0.9, 0.9, 0.5, 0.01, Decision.REVIEW, ("quality",)),
        (Plane.FEMUR, 0.9, 0.9, 1.01, 0.2, Decision.OUT_OF_SCOPE, ("ood",)),
        (Plane.FEMUR, 0.1, 0.9, 9.0, 0.0, Decision.OUT_OF_SCOPE, ("ood", "quality", "confidence")),
    ],
)
def test_the_rule(
    plane: Plane,
    confidence: float,
    brain: float,
    ood: float,
    contrast: float,
    decision: Decision,
    reasons: tuple[str, ...],
) -> None:
    verdict = decide(RULE, plane, confidence, brain, ood, contrast)
    assert (verdict.decision, verdict.reasons) == (decision, reasons)


def test_every_threshold_is_part_of_the_digest() -> None:
    digests = {
        decision_digest(msgspec.structs.replace(RULE, **{name: 0.123})) for name in DecisionRule.__struct_fields__
    }
    assert len(digests | {decision_digest(RULE)}) == len(DecisionRule.__struct_fields__) + 1
    assert decision_digest(RULE) == decision_digest(msgspec.structs.replace(RULE))


def test_the_least_threshold_that_reaches_the_target_is_found() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 5000)
    correct = rng.random(5000) < confidence
    threshold = least_confidence(confidence, correct, 0.9)
    assert correct[confidence >= threshold].mean() >= 0.9
    assert correct[confidence >= threshold - 0.05].mean() < 0.9


def test_no_threshold_is_below_one_half_and_none_reaches_the_impossible() -> None:
    assert least_confidence(np.array([0.4, 0.45]), np.array([True, True]), 0.9) == 0.5
    assert least_confidence(np.array([0.9, 0.95]), np.array([False, False]), 0.9) == 1.0
