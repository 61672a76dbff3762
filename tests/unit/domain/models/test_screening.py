from __future__ import annotations

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES, Decision, Plane
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline
from fetalmlops.domain.models.decision import decide
from fetalmlops.domain.models.manifest import DecisionRule
from fetalmlops.domain.models.screening import screen_frame
from fetalmlops.domain.simulation.rendering import render
from fetalmlops.domain.simulation.scanners import SCANNERS

RNG = np.random.default_rng(5)


def writing() -> np.ndarray:
    page = np.zeros((400, 500), np.uint8)
    for row in range(20, 400, 22):
        cv2.putText(page, "MEASUREMENTS AND REPORT", (5, row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    return page


def empty_fan() -> np.ndarray:
    page = np.zeros((400, 500), np.uint8)
    cv2.ellipse(page, (250, -40), (400, 400), 90, -40, 40, 80, -1)
    return page


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (np.full((300, 400), 90, np.uint8), "blank"),
        (np.zeros((300, 400), np.uint8), "blank"),
        (RNG.integers(0, 256, (300, 400), dtype=np.uint8), "content"),
        (
            cv2.resize(RNG.integers(0, 256, (8, 10), dtype=np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC),
            "content",
        ),
        (writing(), "content"),
        (empty_fan(), "content"),
        (RNG.integers(0, 256, (20, 400), dtype=np.uint8), "size"),
    ],
    ids=["grey", "black", "noise", "smooth", "writing", "empty fan", "strip"],
)
def test_what_is_no_ultrasound_is_named(frame: np.ndarray, reason: str) -> None:
    assert screen_frame(frame) == (reason,)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_no_simulated_scanner_is_refused(scanner: object) -> None:
    pipeline = find_pipeline(PLAIN)
    for index, plane in enumerate(PLANES):
        screen = render(plane, scanner, np.random.default_rng(index))
        assert screen_frame(pipeline.run_array(screen.pixels).frames[0]) == ()


def test_the_checks_come_first_and_a_confident_model_does_not_outvote_them() -> None:
    verdict = decide(DecisionRule(accept=0.5, accept_brain=0.5), Plane.FEMUR, 1.0, 1.0, 0.1, 0.5, ("content",))
    assert verdict.decision is Decision.OUT_OF_SCOPE
    assert verdict.reasons == ("content",)


def test_a_small_frame_is_for_review() -> None:
    verdict = decide(DecisionRule(accept=0.5, accept_brain=0.5), Plane.FEMUR, 1.0, 1.0, 0.1, 0.5, ("size",))
    assert verdict.decision is Decision.REVIEW
