"""Sums are right, and stay small whatever comes."""

from __future__ import annotations

import json

from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.survey.facts import Facts, Scanner
from fetalmlops.domain.deid.survey.regions import RegionState
from fetalmlops.domain.deid.survey.report import ordered, survey_report
from fetalmlops.domain.deid.survey.tally import MOST_SCANNERS, SAMPLE, Survey

ONE = Scanner(manufacturer="M", model="N", software="1", rows=6, columns=8, photometric="RGB")


def facts(scanner: Scanner = ONE, patient: int = 0, frames: int = 2) -> Facts:
    return Facts(scanner=scanner, frames=frames, regions=RegionState.VALID, patient=bytes([patient]))


def test_sums_are_by_scanner_and_of_all() -> None:
    survey = Survey(total=9, not_dicom=2, unopened=1)
    survey.headless["undecodable"] += 1
    for outcome in ("clean", "clean", "pixels-unproven"):
        survey.add(facts(), outcome, "regions" if outcome == "clean" else "", "place")
    survey.add(facts(Scanner(model="other")), "unsupported-sop-class", "", "place")
    report = survey_report(survey, STREAM, text=False, interrupted=False)

    assert report["files"] == {
        "found": 9,
        "looked_at": 8,
        "dicom": 5,
        "not_dicom": 2,
        "unopened": 1,
        "clean": 2,
        "refused": 3,
        "refused_share": 0.6,
        "interrupted": False,
    }
    assert {entry["reason"]: entry["files"] for entry in report["reasons"]} == {
        "undecodable": 1,
        "pixels-unproven": 1,
        "unsupported-sop-class": 1,
    }
    first, second = report["scanners"]
    assert (first["number"], first["model"], first["files"], first["frames"]) == (1, "N", 3, 6)
    assert first["outcomes"] == {"clean": 2, "pixels-unproven": 1}
    assert first["proofs"] == {"regions": 2}
    assert first["refused_share"] == 0.3333
    assert second["refused_share"] == 1.0
    assert second["sop_classes"] == {"not in the standard": 1}


def test_places_and_patients_are_in_no_report() -> None:
    survey = Survey(total=1)
    survey.add(facts(patient=65), "pixels-unproven", "", "CANARY/place")
    assert "CANARY" not in json.dumps(survey_report(survey, STREAM, text=False, interrupted=False))


def test_a_sample_is_bounded_and_has_as_many_patients_as_there_are() -> None:
    survey = Survey()
    for number in range(200):
        survey.add(facts(patient=0 if number < 100 else number % 5), "pixels-unproven", "", str(number))
    sample = survey.scanners[ONE].unproven
    assert len(sample) == SAMPLE
    assert len({kept.patient for kept in sample}) == 5
    assert survey.scanners[ONE].proven == []


def test_what_has_no_frame_or_another_failing_is_no_sample() -> None:
    survey = Survey()
    survey.add(facts(frames=0), "clean", "none", "document")
    survey.add(facts(), "undecodable", "", "broken")
    survey.add(facts(), "deadly", "", "deadly")
    tally = survey.scanners[ONE]
    assert (tally.proven, tally.unproven) == ([], [])


def test_scanners_beyond_the_bound_are_counted_together() -> None:
    survey = Survey()
    for number in range(MOST_SCANNERS + 50):
        survey.add(facts(Scanner(model=str(number))), "clean", "regions", "place")
    survey.add(facts(Scanner(model="7")), "clean", "regions", "place")
    assert len(survey.scanners) == MOST_SCANNERS
    assert survey.others.files == 50
    assert survey.dicom == MOST_SCANNERS + 51
    scanners = ordered(survey)
    assert scanners[0][0] == Scanner(model="7")
    assert scanners[-1] == (None, survey.others)
    entry = survey_report(survey, STREAM, text=False, interrupted=False)["scanners"][-1]
    assert entry["model"] == f"all scanners beyond the first {MOST_SCANNERS}"
