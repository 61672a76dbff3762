"""Gates: whether figures reach what the intended use asks for.

A gate compares the bound of an interval that speaks against the model, never the figure alone. Where there are too few
images or patients to judge by, it says so; that is no pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fetalmlops.domain.learning.foreign import Foreign
    from fetalmlops.domain.learning.intended_use import Accuracy, IntendedUse
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.learning.summary import ClassFigures, Summary

__all__ = ["GateResult", "GateStatus", "Measured", "at_least", "at_most", "junit", "run_gates"]


class GateStatus(StrEnum):
    """How a gate ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_EVALUABLE = "not evaluable"


@dataclass(frozen=True)
class GateResult:
    """One gate.

    Parameters
    ----------
    name
        The threshold in the intended use, with the plane or scanner it was applied to.
    status
        How it ended.
    limit
        The threshold.
    value, bound
        The figure, and the bound of its interval that was compared; None where there is none.
    images, patients
        What the figure rests on.
    why
        What was compared, or what is missing.
    """

    name: str
    status: GateStatus
    limit: float
    value: float | None
    bound: float | None
    images: int
    patients: int
    why: str


@dataclass(frozen=True)
class Measured:
    """Figures beside the summary that gates look at; what was not measured is None or empty.

    Parameters
    ----------
    latency_p95_ms
        95th percentile of an image's time.
    joules
        Energy of an image.
    overlay_gap
        How much accuracy falls when graphics are removed.
    foreign
        How foreign images fare, by kind.
    images
        Images that latency and energy were measured on.
    """

    latency_p95_ms: float | None = None
    joules: float | None = None
    overlay_gap: Estimate | None = None
    foreign: Mapping[str, Foreign] | None = None
    images: int = 0


def run_gates(use: IntendedUse, summary: Summary, measured: Measured) -> list[GateResult]:
    """Return all gates' results, in the order of the intended use."""
    return [
        *_accuracy(use.accuracy, summary),
        *_groups(use, summary),
        *_calibration(use, summary),
        *_scope(use, summary, measured.foreign or {}),
        *_overlays(use, measured),
        *_budgets(use, measured),
    ]


def junit(results: Sequence[GateResult], suite: str) -> bytes:
    """Return results as JUnit XML: a failed gate is a failure, one that is not evaluable is skipped."""
    root = ET.Element(
        "testsuite",
        name=suite,
        tests=str(len(results)),
        failures=str(sum(result.status is GateStatus.FAILED for result in results)),
        errors="0",
        skipped=str(sum(result.status is GateStatus.NOT_EVALUABLE for result in results)),
    )
    for result in results:
        case = ET.SubElement(root, "testcase", classname=suite, name=result.name)
        if result.status is GateStatus.FAILED:
            ET.SubElement(case, "failure", message=result.why)
        elif result.status is GateStatus.NOT_EVALUABLE:
            ET.SubElement(case, "skipped", message=result.why)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _accuracy(accuracy: Accuracy, summary: Summary) -> Iterator[GateResult]:
    patients, images = accuracy.least_patients_per_plane, accuracy.least_images_per_plane
    yield _macro("accuracy.macro_f1", accuracy.macro_f1, summary.figures.get("macro_f1"), summary.planes, patients)
    for plane, floor in accuracy.plane_recall.items():
        yield at_least(f"accuracy.plane_recall.{plane}", floor, _recall(summary.planes, plane), patients, images)
    brain = summary.figures.get("brain_macro_f1")
    yield _macro("accuracy.brain_macro_f1", accuracy.brain_macro_f1, brain, summary.brain_planes, patients)
    for plane, floor in accuracy.brain_recall.items():
        yield at_least(f"accuracy.brain_recall.{plane}", floor, _recall(summary.brain_planes, plane), patients, images)


def _groups(use: IntendedUse, summary: Summary) -> Iterator[GateResult]:
    patients = use.accuracy.least_patients_per_scanner
    for scanner, figures in summary.groups["scanner"].items():
        name, error = f"accuracy.scanner_macro_f1.{scanner}", f"calibration.scanner_ece.{scanner}"
        yield at_least(name, use.accuracy.scanner_macro_f1, figures["macro_f1"], patients)
        yield at_most(error, use.calibration.scanner_ece, figures["expected_calibration_error"], patients)
    overall = summary.figures["macro_f1"]
    judged = [
        figures["macro_f1"]
        for groups in summary.groups.values()
        for figures in groups.values()
        if figures["macro_f1"].patients >= patients and figures["macro_f1"].low is not None
    ]
    name, limit = "accuracy.worst_group_gap", use.accuracy.worst_group_gap
    if len(judged) < 2 or overall.value is None:
        yield _open(name, limit, None, f"needs two groups of at least {patients} patients, got {len(judged)}")
        return
    worst = min(judged, key=lambda estimate: estimate.low or 0.0)
    gap, bound = (round(overall.value - (each or 0.0), 6) for each in (worst.value, worst.low))
    status = GateStatus.PASSED if bound <= limit else GateStatus.FAILED
    why = f"all images less the lower bound of the worst group: {bound:.3f}, at most {limit:g}"
    yield GateResult(name, status, limit, gap, bound, worst.images, worst.patients, why)


def _calibration(use: IntendedUse, summary: Summary) -> Iterator[GateResult]:
    patients = use.accuracy.least_patients_per_plane
    error = summary.figures["expected_calibration_error"]
    yield at_most("calibration.ece", use.calibration.ece, error, patients)
    accepted = summary.figures["accuracy_of_accepted"]
    yield at_most("selective.risk", use.selective.risk, _complement(accepted), patients)
    yield at_least("selective.coverage", use.selective.coverage, summary.figures["accepted"], patients)


def _scope(use: IntendedUse, summary: Summary, foreign: Mapping[str, Foreign]) -> Iterator[GateResult]:
    for kind, figures in foreign.items():
        yield at_most(f"scope.false_accepts.{kind}", use.scope.false_accepts, figures.accepted)
    if not foreign:
        yield _open("scope.false_accepts", use.scope.false_accepts, None, "foreign images were not tried")
    alarms = summary.figures.get("out_of_scope")
    yield at_most("scope.false_alarms", use.scope.false_alarms, alarms, use.accuracy.least_patients_per_plane)


def _overlays(use: IntendedUse, measured: Measured) -> Iterator[GateResult]:
    patients = use.accuracy.least_patients_per_plane
    yield at_most("accuracy.overlay_gap", use.accuracy.overlay_gap, measured.overlay_gap, patients)


def _budgets(use: IntendedUse, measured: Measured) -> Iterator[GateResult]:
    pairs = (
        ("budgets.latency_p95_ms", use.budgets.latency_p95_ms, measured.latency_p95_ms, "measured on this machine"),
        ("budgets.energy_j_per_image", use.budgets.energy_j_per_image, measured.joules, "modelled"),
    )
    for name, limit, value, how in pairs:
        if value is None:
            yield _open(name, limit, None, "was not measured")
            continue
        status = GateStatus.PASSED if value <= limit else GateStatus.FAILED
        yield GateResult(name, status, limit, value, None, measured.images, 0, f"{how}: {value:.3g}, at most {limit:g}")


def _macro(
    name: str, floor: float, estimate: Estimate | None, classes: Mapping[str, ClassFigures], patients: int
) -> GateResult:
    """Return the gate of a mean over classes, which says nothing where one of them has no image."""
    absent = [each for each, figures in classes.items() if not figures.recall.images]
    if estimate is not None and absent:
        return _open(name, floor, estimate, f"no images of {', '.join(absent)}")
    return at_least(name, floor, estimate, patients)


def _recall(planes: Mapping[str, ClassFigures], plane: str) -> Estimate | None:
    return planes[plane].recall if plane in planes else None


def _complement(estimate: Estimate) -> Estimate | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    value, low, high = (round(1 - each, 6) for each in (estimate.value, estimate.high, estimate.low))
    return type(estimate)(value, low, high, estimate.images, estimate.patients)


def at_least(
    name: str, floor: float, estimate: Estimate | None, least_patients: int = 0, least_images: int = 0
) -> GateResult:
    """Return the gate of a figure whose lower bound must reach a floor, judged by no fewer patients and images."""
    missing = _missing(estimate, least_patients, least_images)
    if missing or estimate is None or estimate.low is None:
        return _open(name, floor, estimate, missing)
    if estimate.value == 1 and estimate.low < floor:
        return _open(name, floor, estimate, f"faultless, but so few bound it only to {estimate.low:.3f}; needs more")
    status = GateStatus.PASSED if estimate.low >= floor else GateStatus.FAILED
    return _closed(name, status, floor, estimate, estimate.low, f"lower bound {estimate.low:.3f}, at least {floor:g}")


def at_most(
    name: str, ceiling: float, estimate: Estimate | None, least_patients: int = 0, least_images: int = 0
) -> GateResult:
    """Return the gate of a figure whose upper bound must not pass a ceiling, judged by no fewer patients and images."""
    missing = _missing(estimate, least_patients, least_images)
    if missing or estimate is None or estimate.high is None:
        return _open(name, ceiling, estimate, missing)
    if estimate.value == 0 and estimate.high > ceiling:
        return _open(name, ceiling, estimate, f"faultless, but so few bound it only to {estimate.high:.3f}; needs more")
    status = GateStatus.PASSED if estimate.high <= ceiling else GateStatus.FAILED
    return _closed(
        name, status, ceiling, estimate, estimate.high, f"upper bound {estimate.high:.3f}, at most {ceiling:g}"
    )


def _missing(estimate: Estimate | None, patients: int, images: int) -> str:
    if estimate is None:
        return "not available from this model or these images"
    if estimate.patients < patients:
        return f"needs at least {patients} patients, got {estimate.patients}"
    if estimate.images < images:
        return f"needs at least {images} images, got {estimate.images}"
    return "" if estimate.value is not None and estimate.low is not None else "no interval from so few patients"


def _open(name: str, limit: float, estimate: Estimate | None, why: str) -> GateResult:
    value, images, patients = (None, 0, 0) if estimate is None else (estimate.value, estimate.images, estimate.patients)
    return GateResult(name, GateStatus.NOT_EVALUABLE, limit, value, None, images, patients, why)


def _closed(name: str, status: GateStatus, limit: float, estimate: Estimate, bound: float, why: str) -> GateResult:
    return GateResult(name, status, limit, estimate.value, bound, estimate.images, estimate.patients, why)
