"""A folder a class: planes from folders, patients from a table or an expression, and never without patients."""

from __future__ import annotations

import pytest

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts.folders import patients_from_pattern, patients_from_table, read_folders
from fetalmlops.domain.learning.layouts.hc18 import read_hc18
from fetalmlops.domain.learning.manifest import Split

BY_NUMBER = patients_from_pattern(r"case(\d+)")


def test_folders_are_planes_sub_planes_and_splits() -> None:
    paths = ["femur/case1.png", "brain/trans-thalamic/case2.png", "test/brain/case3.png", "brain/case4_b.jpg"]
    images = {image.patient: image for image in read_folders(paths, BY_NUMBER).images}
    assert (images["1"].plane, images["1"].split) == (Plane.FEMUR, Split.UNKNOWN)
    assert (images["2"].plane, images["2"].brain_plane) == (Plane.BRAIN, BrainPlane.TRANS_THALAMIC)
    assert (images["3"].plane, images["3"].split, images["3"].brain_plane) == (Plane.BRAIN, Split.TEST, None)
    assert images["4"].path == "brain/case4_b.jpg"


def test_a_table_gives_what_is_known_of_an_image() -> None:
    table = "path,patient,scanner,operator,site\nfemur/a.png,p7,Sonic,Op. 9,north\n"
    (image,) = read_folders(["femur/a.png"], patients_from_table(table)).images
    assert (image.patient, image.scanner, image.operator, image.site) == ("p7", "Sonic", "Op. 9", "north")


def test_without_patients_it_is_refused_with_what_to_give() -> None:
    with pytest.raises(ContractError, match=r"--patients .*--patient-pattern"):
        read_folders(["femur/case1.png"], None)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("case1.png", "lies elsewhere"),
        ("knee/case1.png", "Expected a plane among"),
        ("brain/trans-knee/case1.png", "Expected a brain sub-plane among"),
        ("femur/left/case1.png", "lies elsewhere"),
        ("train/case1.png", "lies elsewhere"),
        ("femur/other.png", "does not"),
    ],
)
def test_what_lies_elsewhere_is_refused_without_its_name(path: str, message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        read_folders([path], BY_NUMBER)
    assert "knee" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["(", "case", "(a)(b)"])
def test_an_expression_needs_one_group(pattern: str) -> None:
    with pytest.raises(ContractError, match="with one group"):
        patients_from_pattern(pattern)


def test_a_table_without_a_row_or_a_patient_is_refused() -> None:
    for table in ("path,patient\nfemur/b.png,1\n", "path,patient\nfemur/a.png,\n"):
        with pytest.raises(ContractError, match="one without a row or a patient"):
            read_folders(["femur/a.png"], patients_from_table(table))
    with pytest.raises(ContractError, match="none named patient"):
        patients_from_table("path,who\n")


def test_an_empty_folder_is_refused() -> None:
    with pytest.raises(ContractError, match="got none"):
        read_folders([], BY_NUMBER)


def test_hc18_images_are_brains_of_a_numbered_patient() -> None:
    paths = ["training_set/000_HC.png", "training_set/000_HC_Annotation.png", "010_2HC.png", "010_HC.png", "notes.png"]
    images = read_hc18(paths).images
    assert [(image.path, image.patient) for image in images] == [
        ("010_2HC.png", "10"),
        ("010_HC.png", "10"),
        ("training_set/000_HC.png", "0"),
    ]
    assert {(image.plane, image.brain_plane) for image in images} == {(Plane.BRAIN, None)}
    with pytest.raises(ContractError, match="010_HC"):
        read_hc18(["a.png"])
