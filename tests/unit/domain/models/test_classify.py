from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Decision, Plane
from fetalmlops.domain.models.bundle import Bundle
from fetalmlops.domain.models.classify import classify, explain, frame_weights
from fetalmlops.domain.models.engine import EngineOutput, join_outputs
from fetalmlops.domain.models.manifest import Calibration

GOOD = np.full(4, 0.2)


def logits_for(labels: list[str], vocabulary: tuple[str, ...], strength: float = 8.0) -> np.ndarray:
    return np.array([[strength if label == name else 0.0 for name in vocabulary] for label in labels], np.float32)


def output(planes: list[str], brain_planes: list[str] | None = None, far: float = 0.0) -> EngineOutput:
    count = len(planes)
    maps = np.zeros((count, len(PLANES), 4, 5), np.float32)
    maps += logits_for(planes, PLANES)[:, :, None, None]
    return EngineOutput(
        logits=logits_for(planes, PLANES),
        brain_logits=logits_for(brain_planes or ["other"] * count, BRAIN_PLANES),
        embedding=np.arange(count, dtype=np.float32)[:, None] * np.ones(4, np.float32),
        features=np.full((count, 8), far, np.float32),
        maps=maps,
    )


def test_one_clear_frame_is_accepted(tiny_bundle: Bundle) -> None:
    result = classify(tiny_bundle, output(["femur"]), GOOD[:1], GOOD[:1])
    assert (result.plane, result.best, result.verdict.decision) == (Plane.FEMUR, 0, Decision.ACCEPT)
    assert result.probabilities.sum() == pytest.approx(1)
    assert result.brain_probabilities.sum() == pytest.approx(1)
    assert result.confidence == pytest.approx(np.exp(8) / (np.exp(8) + 5))


def test_the_majority_of_a_cine_wins_and_its_clearest_frame_is_best(tiny_bundle: Bundle) -> None:
    contrast = np.array([0.1, 0.2, 0.3, 0.2])
    result = classify(tiny_bundle, output(["femur", "thorax", "femur", "femur"]), contrast, GOOD)
    assert result.plane is Plane.FEMUR
    assert result.best == 2
    assert result.frame_weights.sum() == pytest.approx(1)
    assert 0.6 < result.confidence < 0.9


def test_a_blurred_minority_of_frames_does_not_outvote_sharp_ones(tiny_bundle: Bundle) -> None:
    sharpness = np.array([0.001, 0.001, 0.001, 0.2])
    result = classify(tiny_bundle, output(["thorax", "thorax", "thorax", "femur"]), GOOD, sharpness)
    assert result.plane is Plane.FEMUR


def test_frames_without_a_brain_do_not_decide_its_sub_plane(tiny_bundle: Bundle) -> None:
    brain_planes = ["trans-thalamic", "trans-cerebellum", "trans-cerebellum", "trans-cerebellum"]
    result = classify(tiny_bundle, output(["brain", "femur", "femur", "femur"], brain_planes), GOOD, GOOD)
    assert result.brain_plane is BrainPlane.TRANS_THALAMIC


def test_far_features_are_out_of_scope(tiny_bundle: Bundle) -> None:
    result = classify(tiny_bundle, output(["femur"], far=100.0), GOOD[:1], GOOD[:1])
    assert result.verdict.decision is Decision.OUT_OF_SCOPE
    assert result.ood_score > 1


def test_a_higher_temperature_lowers_confidence(tiny_bundle: Bundle) -> None:
    manifest = msgspec.structs.replace(tiny_bundle.manifest, calibration=Calibration(temperature=4.0))
    warm = Bundle(manifest, tiny_bundle.digest, tiny_bundle.files, tiny_bundle.ood, tiny_bundle.reference)
    cold_result, warm_result = (classify(each, output(["femur"]), GOOD[:1], GOOD[:1]) for each in (tiny_bundle, warm))
    assert warm_result.confidence < cold_result.confidence
    assert warm_result.verdict.decision is Decision.REVIEW


def test_the_explanation_is_the_map_of_the_plane_in_the_best_frame(tiny_bundle: Bundle) -> None:
    outputs = output(["thorax", "femur", "femur"])
    contrast = np.array([0.2, 0.1, 0.3])
    result = classify(tiny_bundle, outputs, contrast, GOOD[:3])
    grid = explain(tiny_bundle, outputs, result, 300, 300)
    assert grid.shape == (8, 8)
    assert np.unique(grid).tolist() == [8.0]


def test_black_frames_weigh_the_same() -> None:
    assert frame_weights(np.zeros(2), np.zeros(2)).tolist() == [0.5, 0.5]


def test_a_bad_frame_keeps_a_twentieth_of_the_best_ones_weight() -> None:
    weights = frame_weights(np.array([0.2, 0.0]), np.array([0.1, 0.1]))
    assert weights[1] / weights[0] == pytest.approx(0.05)


def test_joining_parts_gives_the_whole() -> None:
    whole = output(["femur", "thorax", "femur"])
    joined = join_outputs([whole.part(0, 1), whole.part(1, 3)])
    np.testing.assert_array_equal(joined.maps, whole.maps)
    assert len(joined) == 3
