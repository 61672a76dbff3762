from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from fetalmlops.domain.learning.acceptance import Check, Outcome, judge, overall, sample_sizes
from fetalmlops.domain.learning.intended_use import parse_intended_use
from fetalmlops.domain.learning.intervals import Estimate
from fetalmlops.platform.learning.intended_use import packaged_intended_use

USE = parse_intended_use(packaged_intended_use())
GOOD = Estimate(0.99, 0.98, 1.0, 900, 300)
LOW = Estimate(0.01, 0.0, 0.02, 900, 300)
NAMES = ["other", "brain", "thorax", "abdomen", "femur", "cervix"]


def summary(**changed: Estimate) -> SimpleNamespace:
    figures = {"macro_f1": GOOD, "brain_macro_f1": GOOD, "expected_calibration_error": LOW, "accuracy_of_accepted": GOOD,
               "accepted": GOOD, "out_of_scope": LOW}  # fmt: skip
    return SimpleNamespace(
        patients=300,
        figures=figures | changed,
        planes={name: SimpleNamespace(recall=GOOD) for name in NAMES},
        groups={"scanner": {"e6": {"macro_f1": GOOD, "expected_calibration_error": LOW}}},
    )


def found(name: str, **changed: Estimate) -> Check:
    return next(check for check in judge(summary(**changed), USE) if check.name == name)


def test_a_good_site_passes_every_demand() -> None:
    checks = judge(summary(), USE)
    assert {check.outcome for check in checks} == {Outcome.PASSED}
    assert overall(checks) is Outcome.PASSED
    assert all(size.enough for size in sample_sizes(summary(), USE))


def test_the_bound_counts_and_not_the_point() -> None:
    wide = replace(GOOD, value=0.95, low=0.85)
    check = found("macro F1 of the planes", macro_f1=wide)
    assert check.outcome is Outcome.NOT_JUDGED
    assert "more patients" in check.why
    assert found("macro F1 of the planes", macro_f1=replace(wide, value=0.89)).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("high", "value", "outcome"), [(0.04, 0.01, "passed"), (0.06, 0.01, "not judged"), (0.09, 0.07, "failed")]
)
def test_a_limit_is_compared_with_the_upper_bound(high: float, value: float, outcome: str) -> None:
    check = found("calibration error", expected_calibration_error=Estimate(value, 0.0, high, 900, 300))
    assert check.outcome == outcome


def test_too_few_patients_are_not_judged_however_good() -> None:
    check = found("accuracy of what is accepted", accuracy_of_accepted=replace(GOOD, patients=20))
    assert check.outcome is Outcome.NOT_JUDGED
    assert "20 found" in check.why


def test_a_score_that_the_bundle_lacks_is_not_available() -> None:
    site = summary()
    del site.figures["out_of_scope"]
    check = next(each for each in judge(site, USE) if each.name == "false alarms out of scope")
    assert (check.outcome, check.why) == (Outcome.NOT_JUDGED, "not available")


def test_one_failure_fails_all() -> None:
    checks = [Check(str(outcome), "", None, outcome) for outcome in Outcome]
    assert overall(checks) is Outcome.FAILED
    assert overall(checks[:1] + checks[2:]) is Outcome.NOT_JUDGED
    assert overall([]) is Outcome.NOT_JUDGED
