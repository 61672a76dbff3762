"""A summary, a comparison and gates, from predictions whose truth is known."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.comparison import compare
from fetalmlops.domain.learning.foreign import Foreign, foreign_figures, foreign_images
from fetalmlops.domain.learning.gates import GateStatus, Measured, junit, run_gates
from fetalmlops.domain.learning.intended_use import parse_intended_use
from fetalmlops.domain.learning.intervals import Estimate, Resampler, Sampling
from fetalmlops.domain.learning.manifest import ImageEntry, Split
from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.learning.summary import decisions, labelled, part, summarise_predictions
from fetalmlops.domain.models.manifest import Calibration, DecisionRule
from fetalmlops.platform.learning.intended_use import packaged_intended_use

RULE = DecisionRule(accept=0.6, accept_brain=0.5)
USE = parse_intended_use(packaged_intended_use())
FEW = Sampling(replicates=200)


def predictions(patients: int, wrong: float = 0.0, *, seed: int = 0, each: int = 9, **changes: object) -> Predictions:
    """Every patient has every plane; a share of the images is called something else, surely."""
    rng = np.random.default_rng(seed)
    count = patients * each
    planes = np.arange(count) % 9
    labels = np.array([0, 2, 3, 4, 5, 1, 1, 1, 1])[planes]
    brains = np.where(planes >= 5, planes - 5, -1)
    called = np.where(rng.random(count) < wrong, (labels + 1) % 6, labels)
    images = [
        ImageEntry(
            path=f"{index}.png",
            sha256=f"{index:064x}",
            pixels="b" * 64,
            hash="0" * 16,
            patient=f"p{index // each}",
            split=Split.TEST,
            plane=PLANES[label],
            brain_plane=BRAIN_PLANES[brain] if brain >= 0 else None,
            scanner=f"scanner {index // each % 2}",
            rows=3,
            columns=4,
        )
        for index, (label, brain) in enumerate(zip(labels, brains, strict=True))
    ]
    values = {
        "images": images,
        "logits": (8 * np.eye(6)[called]).astype(np.float32),
        "brain_logits": (8 * np.eye(4)[np.maximum(brains, 0)]).astype(np.float32),
        "features": np.zeros((count, 3), np.float32),
        "ood": np.full(count, 0.5),
        "contrast": np.full(count, 0.2),
        "sharpness": np.full(count, 0.1),
        "calibration": Calibration(),
    }
    return Predictions(**{**values, **changes})


def test_a_summary_tells_the_errors_that_were_put_in() -> None:
    summary = summarise_predictions(predictions(200, 0.1), RULE, sampling=FEW)
    assert summary.figures["accuracy"].value == pytest.approx(0.9, abs=0.02)
    assert summary.figures["accuracy"].low < 0.9 < summary.figures["accuracy"].high
    assert summary.figures["brain_accuracy"].value == 1.0
    assert summary.planes["cervix"].recall.images == 200
    assert sum(map(sum, summary.confusion)) == summary.images == 1800
    assert set(summary.groups["scanner"]) == {"scanner 0", "scanner 1"}
    assert summary.groups["operator"] == {}
    assert summary.groups["scanner"]["scanner 0"]["accuracy"].patients == 100
    assert summary.exams["brain"].false_missing.value < 0.01  # four images of each patient: one right is enough
    assert summary.exams["cervix"].false_missing.value == pytest.approx(0.1, abs=0.05)
    assert msgspec.json.encode(msgspec.to_builtins(summary, str_keys=True))


def test_images_without_a_label_count_nowhere() -> None:
    all_of_them = predictions(10)
    unlabelled = [msgspec.structs.replace(image, plane=None) for image in all_of_them.images[:4]]
    images = [*unlabelled, *all_of_them.images[4:]]
    summary = summarise_predictions(predictions(10, images=images), RULE, sampling=FEW)
    assert (summary.images, summary.unlabelled) == (86, 4)
    with pytest.raises(ContractError, match="Expected images with a label"):
        labelled(predictions(1, images=[msgspec.structs.replace(image, plane=None) for image in images[:9]]))


def test_what_a_model_lacks_is_left_out() -> None:
    lacking = predictions(10, brain_logits=np.zeros((90, 0), np.float32), ood=np.full(90, np.nan))
    summary = summarise_predictions(lacking, RULE, sampling=FEW)
    assert "brain_accuracy" not in summary.figures
    assert "out_of_scope" not in summary.figures
    assert summary.brain_planes == {}
    results = {result.name: result for result in run_gates(USE, summary, Measured())}
    assert results["accuracy.brain_macro_f1"].status is GateStatus.NOT_EVALUABLE
    assert results["scope.false_alarms"].status is GateStatus.NOT_EVALUABLE


def test_decisions_are_those_of_the_serving_rule() -> None:
    made = predictions(1, ood=np.linspace(0.5, 1.5, 9), faults=[("blank",)] + [()] * 8)
    found = decisions(made, RULE).tolist()
    assert found[0] == "out_of_scope"
    assert found[1:5] == ["accept"] * 4
    assert found[5:] == ["out_of_scope"] * 4


def test_gates_pass_fail_and_abstain() -> None:
    good = {
        result.name: result
        for result in run_gates(USE, summarise_predictions(predictions(200), RULE, sampling=FEW), Measured())
    }
    assert good["accuracy.macro_f1"].status is GateStatus.PASSED
    assert good["accuracy.plane_recall.femur"].status is GateStatus.PASSED
    assert good["selective.risk"].status is GateStatus.PASSED
    assert good["accuracy.scanner_macro_f1.scanner 1"].status is GateStatus.PASSED
    assert good["budgets.latency_p95_ms"].status is GateStatus.NOT_EVALUABLE
    bad = {
        result.name: result
        for result in run_gates(
            USE,
            summarise_predictions(predictions(200, 0.3), RULE, sampling=FEW),
            Measured(latency_p95_ms=1e6, joules=0.1),
        )
    }
    for name in (
        "accuracy.macro_f1",
        "accuracy.plane_recall.femur",
        "selective.risk",
        "budgets.latency_p95_ms",
        "calibration.ece",
    ):
        assert bad[name].status is GateStatus.FAILED, name
    assert bad["budgets.energy_j_per_image"].status is GateStatus.PASSED
    few = run_gates(USE, summarise_predictions(predictions(5), RULE, sampling=FEW), Measured())
    assert {result.status for result in few} == {GateStatus.NOT_EVALUABLE}


def test_a_faultless_model_on_too_few_patients_has_not_passed() -> None:
    summary = summarise_predictions(predictions(40), RULE, sampling=FEW)
    brain = next(r for r in run_gates(USE, summary, Measured()) if r.name == "accuracy.plane_recall.brain")
    assert (brain.value, brain.status) == (1.0, GateStatus.NOT_EVALUABLE)
    assert "needs more" in brain.why


def test_a_mean_over_planes_is_not_judged_where_one_has_no_images() -> None:
    made = predictions(60)
    brains = np.flatnonzero(made.labels == 1)
    results = {
        r.name: r for r in run_gates(USE, summarise_predictions(part(made, brains), RULE, sampling=FEW), Measured())
    }
    assert results["accuracy.macro_f1"].status is GateStatus.NOT_EVALUABLE
    assert "no images of other, thorax" in results["accuracy.macro_f1"].why
    assert results["accuracy.brain_macro_f1"].status is GateStatus.PASSED


def test_gates_look_at_overlays_and_foreign_images() -> None:
    summary = summarise_predictions(predictions(100), RULE, sampling=FEW)
    accepted = Estimate(0.2, 0.13, 0.29, 100, 0)
    measured = Measured(
        overlay_gap=Estimate(0.06, 0.04, 0.09, 400, 100), foreign={"noise": Foreign(100, accepted, accepted, accepted)}
    )
    results = {result.name: result.status for result in run_gates(USE, summary, measured)}
    assert results["accuracy.overlay_gap"] is GateStatus.FAILED
    assert results["scope.false_accepts.noise"] is GateStatus.FAILED


def test_a_worse_scanner_fails_its_gates() -> None:
    made, worse = predictions(100), predictions(100, 0.5, seed=4)
    on_one = np.array([image.scanner == "scanner 1" for image in made.images])
    mixed = predictions(100, logits=np.where(on_one[:, None], worse.logits, made.logits))
    results = {r.name: r.status for r in run_gates(USE, summarise_predictions(mixed, RULE, sampling=FEW), Measured())}
    assert results["accuracy.scanner_macro_f1.scanner 0"] is GateStatus.PASSED
    assert results["accuracy.scanner_macro_f1.scanner 1"] is GateStatus.FAILED
    assert results["accuracy.worst_group_gap"] is GateStatus.FAILED


def test_junit_counts_what_failed_and_what_was_skipped() -> None:
    results = run_gates(USE, summarise_predictions(predictions(200, 0.3), RULE, sampling=FEW), Measured())
    root = ET.fromstring(junit(results, "a < b"))
    counts = {status: sum(result.status is status for result in results) for status in GateStatus}
    assert root.get("name") == "a < b"
    assert int(root.get("failures")) == len(root.findall(".//failure")) == counts[GateStatus.FAILED] > 0
    assert int(root.get("skipped")) == len(root.findall(".//skipped")) == counts[GateStatus.NOT_EVALUABLE] > 0
    assert int(root.get("tests")) == len(root) == len(results)


def test_a_model_is_not_inferior_to_itself_and_a_broken_one_is() -> None:
    base = predictions(150, 0.05)
    same = compare(base, base, margin=0.03, sampling=FEW)
    assert same.verdict == "not inferior"
    assert same.differences["accuracy"].value == 0
    assert same.mcnemar.p_value == 1
    broken = compare(base, predictions(150, 0.4, seed=3), margin=0.03, sampling=FEW)
    assert broken.verdict == "inferior"
    assert broken.differences["accuracy"].high < -0.2
    assert broken.mcnemar.p_value < 1e-6
    few = compare(predictions(6, 0.1), predictions(6, 0.1, seed=9), margin=0.03, sampling=FEW)
    assert few.verdict == "not shown"


def test_that_few_patients_tell_no_models_apart_is_no_proof() -> None:
    tie = compare(predictions(8), predictions(8), margin=0.03, sampling=FEW)
    assert tie.planes["femur"].value == 0
    assert tie.planes["femur"].high == pytest.approx(1 - 0.025 ** (1 / 8), abs=1e-5)
    assert tie.verdict == "not shown"


def test_that_all_of_few_patients_are_won_is_no_proof() -> None:
    base = predictions(8)
    lost = compare(predictions(8, logits=-base.logits), base, margin=0.03, sampling=FEW)
    assert (lost.planes["femur"].value, lost.planes["femur"].high) == (1, 1)
    assert lost.planes["femur"].low == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 8)), abs=1e-5)
    assert lost.verdict == "not shown"  # of so few patients, even where the interval lies above 0
    assert lost.differences["accuracy"].low < 1


def test_pairing_narrows_the_difference() -> None:
    base = predictions(100, 0.2)
    nearly = base.logits.copy()
    nearly[:9] = predictions(100).logits[:9]
    paired = compare(base, predictions(100, logits=nearly), sampling=FEW).differences["accuracy"]
    alone = summarise_predictions(base, RULE, sampling=FEW).figures["accuracy"]
    assert paired.high - paired.low < (alone.high - alone.low) / 4


def test_predictions_on_other_images_are_not_compared() -> None:
    with pytest.raises(ContractError, match="on the same images"):
        compare(predictions(4), predictions(5))


def test_foreign_images_are_counted_with_exact_intervals() -> None:
    said = np.array(["out_of_scope"] * 8 + ["accept"] * 2)
    inside = np.linspace(0, 1, 20)
    figures = foreign_figures(inside, np.full(10, 2.0), said, Resampler(np.arange(20).astype(str), FEW))
    assert (figures.flagged.value, figures.accepted.value, figures.auroc.value) == (0.8, 0.2, 1.0)
    assert (round(figures.accepted.low, 4), round(figures.accepted.high, 4)) == (0.0252, 0.5561)


def test_foreign_images_are_the_same_for_a_seed() -> None:
    one, again, other = foreign_images(2, 1), foreign_images(2, 1), foreign_images(2, 2)
    assert all((one[kind] == again[kind]).all() for kind in one)
    assert (one["noise"] != other["noise"]).any()
    assert {images.shape for images in one.values()} == {(2, 300, 400)}
