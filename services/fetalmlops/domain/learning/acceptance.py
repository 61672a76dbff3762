"""A site's acceptance test: does a bundle do there what it is for? Bounds of intervals are compared, never points."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fetalmlops.domain.models.selective import patients_needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.intervals import Estimate
    from fetalmlops.domain.learning.summary import Summary

__all__ = ["Check", "Outcome", "SampleSize", "judge", "overall", "sample_sizes"]


class Outcome(StrEnum):
    """What came of a check; one that cannot be judged is never taken for passed."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Check:
    """One demand of the intended use, and what was found.

    Parameters
    ----------
    name
        The figure.
    wanted
        What it must reach, in words.
    estimate
        What was found; None where there is nothing to find.
    outcome
        What came of it.
    why
        Why it was not judged; empty otherwise.
    """

    name: str
    wanted: str
    estimate: Estimate | None
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class SampleSize:
    """How many patients a demand needs, and how many there are."""

    what: str
    needed: int
    found: int

    @property
    def enough(self) -> bool:
        """Whether there are as many as needed."""
        return self.found >= self.needed


def sample_sizes(summary: Summary, use: IntendedUse) -> list[SampleSize]:
    """Return how many patients the test needs: for the selective risk without an error, and for each plane and scanner."""
    sizes = [
        SampleSize(
            "risk of what is accepted", patients_needed(use.selective.risk, use.accuracy.interval), summary.patients
        )
    ]
    for plane in use.purpose.planes:
        figures = summary.planes.get(plane)
        found = figures.recall.patients if figures else 0
        sizes.append(SampleSize(f"plane {plane}", use.accuracy.least_patients_per_plane, found))
    for scanner, found_figures in summary.groups["scanner"].items():
        found = found_figures["macro_f1"].patients
        sizes.append(SampleSize(f"scanner {scanner}", use.accuracy.least_patients_per_scanner, found))
    return sizes


def judge(summary: Summary, use: IntendedUse) -> list[Check]:
    """Return every demand of the intended use that a site's labelled images can answer, judged.

    Floors are compared with the lower bound of the patient-clustered interval, limits with the upper one. A demand fails where
    the figure itself misses it; where only the bound does, it is not judged: more patients are needed.
    """
    return [*_accuracy(summary, use), *_calibration(summary, use), *_selective(summary, use)]


def overall(checks: list[Check]) -> Outcome:
    """Return the outcome of the whole test: failed if any check failed, passed only if all passed.

    Examples
    --------
    >>> overall([Check("a", "", None, Outcome.PASSED), Check("b", "", None, Outcome.NOT_JUDGED, "too few")])
    <Outcome.NOT_JUDGED: 'not judged'>
    """
    outcomes = {check.outcome for check in checks}
    if Outcome.FAILED in outcomes:
        return Outcome.FAILED
    return Outcome.PASSED if outcomes == {Outcome.PASSED} else Outcome.NOT_JUDGED


def _accuracy(summary: Summary, use: IntendedUse) -> Iterator[Check]:
    wanted, figures = use.accuracy, summary.figures
    least = wanted.least_patients_per_plane
    yield _floor("macro F1 of the planes", figures.get("macro_f1"), wanted.macro_f1, least)
    for plane, floor in wanted.plane_recall.items():
        found = summary.planes.get(plane)
        yield _floor(f"recall of {plane}", found.recall if found else None, floor, least)
    if "brain_macro_f1" in figures:
        yield _floor("macro F1 of the brain sub-planes", figures["brain_macro_f1"], wanted.brain_macro_f1, least)
    for scanner, each in summary.groups["scanner"].items():
        floor, needed = wanted.scanner_macro_f1, wanted.least_patients_per_scanner
        yield _floor(f"macro F1 on {scanner}", each["macro_f1"], floor, needed)


def _calibration(summary: Summary, use: IntendedUse) -> Iterator[Check]:
    name, limits = "expected_calibration_error", use.calibration
    yield _limit("calibration error", summary.figures.get(name), limits.ece, use.accuracy.least_patients_per_plane)
    for scanner, each in summary.groups["scanner"].items():
        needed = use.accuracy.least_patients_per_scanner
        yield _limit(f"calibration error on {scanner}", each[name], limits.scanner_ece, needed)


def _selective(summary: Summary, use: IntendedUse) -> Iterator[Check]:
    needed = patients_needed(use.selective.risk, use.accuracy.interval)
    yield _floor(
        "accuracy of what is accepted", summary.figures.get("accuracy_of_accepted"), 1 - use.selective.risk, needed
    )
    yield _floor("share that is accepted", summary.figures.get("accepted"), use.selective.coverage, 1)
    yield _limit("false alarms out of scope", summary.figures.get("out_of_scope"), use.scope.false_alarms, 1)


def _floor(name: str, estimate: Estimate | None, floor: float, patients: int) -> Check:
    wanted = f"at least {floor:g}"
    if estimate is None or estimate.value is None or estimate.low is None:
        return _unknown(name, wanted, estimate)
    return _checked(name, wanted, estimate, patients, shown=estimate.low >= floor, lost=estimate.value < floor)


def _limit(name: str, estimate: Estimate | None, limit: float, patients: int) -> Check:
    wanted = f"at most {limit:g}"
    if estimate is None or estimate.value is None or estimate.high is None:
        return _unknown(name, wanted, estimate)
    return _checked(name, wanted, estimate, patients, shown=estimate.high <= limit, lost=estimate.value > limit)


def _unknown(name: str, wanted: str, estimate: Estimate | None) -> Check:
    return Check(name, wanted, estimate, Outcome.NOT_JUDGED, "not available")


def _checked(name: str, wanted: str, estimate: Estimate, patients: int, *, shown: bool, lost: bool) -> Check:
    if estimate.patients < patients:
        why = f"{patients} patients needed, {estimate.patients} found"
        return Check(name, wanted, estimate, Outcome.NOT_JUDGED, why)
    if shown or lost:
        return Check(name, wanted, estimate, Outcome.PASSED if shown else Outcome.FAILED)
    return Check(name, wanted, estimate, Outcome.NOT_JUDGED, "the interval is too wide, more patients are needed")
