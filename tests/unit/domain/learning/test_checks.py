"""Leakage and duplicates across splits refuse a data set; what stays within a patient is only noted."""

from __future__ import annotations

from fetalmlops.domain.contracts.planes import PLANES, BrainPlane, Plane
from fetalmlops.domain.learning.checks import (
    Weight,
    check_counts,
    check_labels,
    check_pairs,
    check_patients,
    check_repeats,
)
from fetalmlops.domain.learning.duplicates import Pair
from fetalmlops.domain.learning.intended_use import parse_intended_use
from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry, Split
from fetalmlops.platform.learning.intended_use import packaged_intended_use
from support.datasets import entry


def _manifest(*images: ImageEntry) -> DataManifest:
    return DataManifest(name="a", layout="folders", licence="none", images=list(images))


def test_a_patient_in_two_splits_refuses() -> None:
    leaked = _manifest(entry(1), entry(2, patient="1", split=Split.TEST), entry(3))
    (finding,) = check_patients(leaked)
    assert (finding.weight, finding.kind, list(finding.paths)) == (
        Weight.REFUSED,
        "patient-leakage",
        ["1.png", "2.png"],
    )
    assert check_patients(_manifest(entry(1), entry(2, split=Split.TEST))) == []


def test_a_frame_listed_twice_refuses_and_two_frames_of_a_file_do_not() -> None:
    assert check_repeats(_manifest(entry(1), entry(1)))[0].weight is Weight.REFUSED
    assert check_repeats(_manifest(entry(1), entry(1, frame=1))) == []


def test_pairs_are_weighed_by_what_they_cross() -> None:
    brain = {"plane": Plane.BRAIN}
    images = [
        entry(0, **brain),
        entry(1, **brain, split=Split.TEST),
        entry(2, **brain),
        entry(3, patient="0", **brain),
        entry(4, plane=Plane.FEMUR),
    ]
    pairs = [Pair(0, 1), Pair(0, 2), Pair(0, 3), Pair(0, 4)]

    exact = {finding.kind: finding.weight for finding in check_pairs(images, pairs, "exact-duplicate")}
    near = {finding.kind: finding.weight for finding in check_pairs(images, pairs, "near-duplicate")}

    assert exact == {
        "exact-duplicate-across-splits": Weight.REFUSED,
        "exact-duplicate-across-patients": Weight.NOTED,
        "exact-duplicate-within-patient": Weight.NOTED,
        "exact-duplicate-labels-differ": Weight.REFUSED,
    }
    assert near == {
        "near-duplicate-across-splits": Weight.REFUSED,
        "near-duplicate-across-patients": Weight.NOTED,
        "near-duplicate-within-patient": Weight.NOTED,
    }


def test_labels_of_the_future_and_of_other_planes_refuse() -> None:
    future = entry(1, plane=Plane("a plane of the future"))
    wrong = entry(2, plane=Plane.FEMUR, brain_plane=BrainPlane.TRANS_THALAMIC)
    without = entry(3)
    findings = check_labels(_manifest(future, wrong, without))
    assert [(finding.weight, finding.paths) for finding in findings] == [
        (Weight.REFUSED, ["1.png"]),
        (Weight.REFUSED, ["2.png"]),
        (Weight.NOTED, ["3.png"]),
    ]


def test_counts_are_held_against_the_intended_use() -> None:
    use = parse_intended_use(packaged_intended_use())
    floors = use.accuracy
    many = [
        entry(number * 100 + index, plane=plane, patient=f"{number}-{index % floors.least_patients_per_plane}")
        for number, plane in enumerate(PLANES)
        for index in range(floors.least_images_per_plane)
    ]
    assert check_counts(_manifest(*many), use) == []
    (few,) = check_counts(_manifest(*many[1:]), use)
    assert (few.weight, few.kind) == (Weight.NOTED, "few-in-train")
    assert f"{PLANES[0]} {floors.least_images_per_plane - 1} of" in few.text
    assert PLANES[1] not in few.text
