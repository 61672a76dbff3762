"""Gates of a promotion: whom a bundle may replace, and what its manifest must show."""

from __future__ import annotations

import msgspec
import pytest

from fetalmlops.domain.contracts.planes import ReleaseStatus, Role
from fetalmlops.domain.learning.gates import GateResult, GateStatus
from fetalmlops.domain.learning.intended_use import IntendedUse, parse_intended_use
from fetalmlops.domain.learning.promotion import evidence_gates, kpi_gates, replacement_gate
from fetalmlops.domain.models.evidence import Estimate
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Manifest, decode_manifest
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.learning.intended_use import packaged_intended_use

DEMONSTRATION, CANDIDATE, VALIDATED = (
    ReleaseStatus.DEMONSTRATION,
    ReleaseStatus.CANDIDATE,
    ReleaseStatus.VALIDATED,
)


@pytest.fixture(scope="module")
def use() -> IntendedUse:
    return parse_intended_use(packaged_intended_use())


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return decode_manifest(bundled_files()[MANIFEST_NAME])


def told(value: float, *, images: int = 400, patients: int = 100, level: float = 0.95) -> Estimate:
    low, high = max(0.0, value - 0.005), min(1.0, value + 0.005)
    return Estimate(value=value, low=low, high=high, level=level, images=images, patients=patients)


def figures(use: IntendedUse) -> dict[str, Estimate]:
    accuracy = use.accuracy
    return {
        "macro_f1": told(0.98),
        "brain_macro_f1": told(0.9),
        "expected_calibration_error": told(0.02),
        "accuracy_of_accepted": told(0.99),
        "accepted": told(0.9),
        "out_of_scope": told(0.03),
        **{f"recall: {plane}": told(0.98) for plane in accuracy.plane_recall},
        **{f"brain_recall: {plane}": told(0.9) for plane in accuracy.brain_recall},
    }


def with_figures(manifest: Manifest, found: dict[str, Estimate], split: str = "test") -> Manifest:
    evidence = msgspec.structs.replace(manifest.evidence, figures={split: found})
    return msgspec.structs.replace(manifest, evidence=evidence, release_status=CANDIDATE)


def missed(manifest: Manifest, use: IntendedUse, role: Role = Role.CHAMPION) -> list[str]:
    return [gate.name for gate in kpi_gates(manifest, role, evidence_gates(manifest, use)) if not gate.holds]


@pytest.mark.parametrize(
    ("status", "role", "current", "holds"),
    [
        (DEMONSTRATION, Role.CHAMPION, None, True),
        (DEMONSTRATION, Role.CHAMPION, DEMONSTRATION, True),
        (DEMONSTRATION, Role.CHAMPION, CANDIDATE, False),
        (DEMONSTRATION, Role.CHAMPION, VALIDATED, False),
        (DEMONSTRATION, Role.CHAMPION, ReleaseStatus.UNKNOWN, False),
        (DEMONSTRATION, Role.SHADOW, VALIDATED, True),
        (CANDIDATE, Role.CHAMPION, VALIDATED, True),
        (VALIDATED, Role.CHAMPION, DEMONSTRATION, True),
    ],
)
def test_a_demonstration_never_replaces_what_stands_for_more(
    manifest: Manifest, status: ReleaseStatus, role: Role, current: ReleaseStatus | None, holds: bool
) -> None:
    changed = msgspec.structs.replace(manifest, release_status=status)
    assert replacement_gate(changed, role, current).holds is holds


def test_a_candidate_with_every_floor_reached_holds(manifest: Manifest, use: IntendedUse) -> None:
    assert missed(with_figures(manifest, figures(use)), use) == []


def test_a_candidate_without_figures_on_test_images_is_refused(manifest: Manifest, use: IntendedUse) -> None:
    assert missed(with_figures(manifest, figures(use), "validation"), use) == ["accuracy.macro_f1"]


@pytest.mark.parametrize(
    ("figure", "changed", "gate"),
    [
        ("macro_f1", told(0.903), "accuracy.macro_f1"),
        ("recall: femur", told(0.5), "accuracy.plane_recall.femur"),
        ("recall: femur", told(0.98, patients=5), "accuracy.plane_recall.femur"),
        ("recall: femur", told(0.98, images=50), "accuracy.plane_recall.femur"),
        ("recall: femur", told(0.98, level=0.9), "accuracy.plane_recall.femur"),
        ("brain_recall: trans-thalamic", told(0.2), "accuracy.brain_recall.trans-thalamic"),
        ("expected_calibration_error", told(0.049), "calibration.ece"),
        ("accuracy_of_accepted", told(0.96), "selective.risk"),
        ("accepted", told(0.6), "selective.coverage"),
        ("out_of_scope", told(0.2), "scope.false_alarms"),
    ],
)
def test_each_floor_counts(manifest: Manifest, use: IntendedUse, figure: str, changed: Estimate, gate: str) -> None:
    assert gate in missed(with_figures(manifest, {**figures(use), figure: changed}), use)


def test_a_figure_that_is_missing_is_no_pass(manifest: Manifest, use: IntendedUse) -> None:
    found = figures(use)
    for name in found:
        assert missed(with_figures(manifest, {key: each for key, each in found.items() if key != name}), use)


def test_a_shadow_needs_no_floor_and_a_bundle_without_sub_planes_none_of_theirs(
    manifest: Manifest, use: IntendedUse
) -> None:
    poor = with_figures(manifest, {**figures(use), "macro_f1": told(0.1), "brain_macro_f1": told(0.1)})
    assert missed(poor, use, Role.SHADOW) == []
    assert missed(poor, use) == ["accuracy.macro_f1", "accuracy.brain_macro_f1"]
    assert missed(msgspec.structs.replace(poor, brain_planes=[]), use) == ["accuracy.macro_f1"]


@pytest.mark.parametrize(
    ("status", "holds"), [(GateStatus.PASSED, True), (GateStatus.NOT_EVALUABLE, True), (GateStatus.FAILED, False)]
)
def test_other_gates_of_a_report_may_be_open_but_not_failed(
    manifest: Manifest, status: GateStatus, holds: bool
) -> None:
    candidate = msgspec.structs.replace(manifest, release_status=CANDIDATE)
    (gate,) = kpi_gates(
        candidate, Role.CHAMPION, [GateResult("accuracy.overlay_gap", status, 0.03, None, None, 0, 0, "")]
    )
    assert gate.holds is holds
