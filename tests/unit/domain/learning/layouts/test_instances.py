"""Clean files and their labels: by a table of instances, or by labelled results; nothing that is not de-identified."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import msgspec
import pytest

from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts.instances import MOST_FRAMES, CleanFile, read_dicom, read_results

FILE = CleanFile(
    path="a.dcm", sha256="a" * 64, instance="1.2.3", patient="p1", deidentified=True, scanner="Maker One", frames=1
)
CINE = replace(FILE, path="b.dcm", sha256="b" * 64, instance="1.2.4", patient="p2", frames=40)


def test_a_table_labels_instances_and_frames() -> None:
    labels = "instance,plane,brain_plane,frame\n1.2.3,femur,,\n1.2.4,brain,trans-cerebellum,40\n"
    first, second = read_dicom([CINE, FILE], labels, "north").images
    assert (first.path, first.plane, first.patient, first.scanner, first.site) == (
        "a.dcm",
        Plane.FEMUR,
        "p1",
        "Maker One",
        "north",
    )
    assert (second.frame, second.plane, second.brain_plane) == (39, Plane.BRAIN, BrainPlane.TRANS_CEREBELLUM)


def test_a_cine_gives_frames_that_are_spaced() -> None:
    frames = [image.frame for image in read_dicom([CINE], None).images]
    assert len(frames) == MOST_FRAMES
    assert frames == sorted(set(frames))
    assert 0 <= frames[0] < frames[-1] < 40


def test_files_without_a_label_or_pixels_are_left_out() -> None:
    report = replace(FILE, path="c.dcm", instance="1.2.5", frames=0)
    listing = read_dicom([FILE, CINE, report], "instance,plane\n1.2.3,femur\n")
    assert [image.path for image in listing.images] == ["a.dcm"]
    assert listing.excluded == {"without a label": 1}


@pytest.mark.parametrize(
    ("file", "labels", "message"),
    [
        (replace(FILE, deidentified=False), None, r"0012,0062.* got 1"),
        (replace(FILE, patient=""), None, "a pseudonym"),
        (replace(FILE, frames=0), None, "got none"),
        (FILE, "instance,plane\n9.9.9,femur\n", "got 1 of others"),
        (FILE, "instance,plane\n1.2.3,knee\n", "Expected a plane among"),
        (FILE, "instance,plane,frame\n1.2.3,femur,2\n", "from 1 to 1"),
        (FILE, "instance,plane,frame\n1.2.3,femur,first\n", "from 1 to 1"),
        (FILE, "instance\n1.2.3\n", "none named plane"),
        (FILE, "instance,plane\n", "got none"),
    ],
)
def test_what_cannot_be_used_is_refused(file: CleanFile, labels: str | None, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        read_dicom([file], labels)


def _line(samples: ModuleType, label: object, **changes: Any) -> str:
    event: InstanceClassified = samples.classified()
    event = msgspec.structs.replace(
        event, lineage=msgspec.structs.replace(event.lineage, deidentified_sha256="b" * 64), best_frame=7
    )
    values = {"ce_id": "x", **msgspec.to_builtins(event), **changes}
    return msgspec.json.encode(values if label is None else {**values, "label": label}).decode()


def test_labelled_results_find_their_clean_files(samples: ModuleType) -> None:
    lines = "\n".join(
        (_line(samples, {"plane": "femur"}), "", _line(samples, {"plane": "brain", "brain_plane": "other"}))
    )
    (image,) = read_results([FILE, CINE], lines).images
    assert (image.path, image.frame) == ("b.dcm", 6)
    assert (image.plane, image.brain_plane) == (Plane.BRAIN, BrainPlane.OTHER)
    assert len(image.patient) == 32


def test_results_without_labels_or_files_are_refused(samples: ModuleType) -> None:
    with pytest.raises(ContractError, match="got 0 of which 0"):
        read_results([CINE], _line(samples, None))
    with pytest.raises(ContractError, match="got 1 of which 1"):
        read_results([FILE], _line(samples, {"plane": "femur"}))
    with pytest.raises(ContractError, match="line 1"):
        read_results([CINE], _line(samples, {"plane": "a plane of the future"}))
    with pytest.raises(ContractError, match="another line 2"):
        read_results([CINE], _line(samples, {"plane": "femur"}) + "\n{}")
