"""A part for validation is drawn by whole patients, alike in its planes, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts.listing import Listed
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.splits import assign_splits, draw_patients, straddling_patients


def _images(patients: int = 200, seed: int = 3) -> list[Listed]:
    rng = np.random.default_rng(seed)
    return [
        Listed(path=f"{patient}-{number}.png", patient=str(patient), plane=Plane(rng.choice(PLANES)))
        for patient in range(patients)
        for number in range(int(rng.integers(1, 30)))
    ]


def _share(images: list[Listed], plane: Plane) -> float:
    counts = Counter(image.split for image in images if image.plane is plane)
    return counts[Split.VALIDATION] / counts.total()


def test_validation_has_its_share_of_every_plane_and_no_patient_of_training() -> None:
    images = assign_splits(_images(), share=0.2, seed=1)

    assert not straddling_patients(images)
    assert all(abs(_share(images, plane) - 0.2) < 0.02 for plane in PLANES)


def test_the_same_seed_gives_the_same_patients_in_whatever_order_images_come() -> None:
    images = _images()
    first = {image.path: image.split for image in assign_splits(images, share=0.2, seed=1)}
    again = {image.path: image.split for image in assign_splits(images[::-1], share=0.2, seed=1)}
    other = {image.path: image.split for image in assign_splits(images, share=0.2, seed=2)}
    assert first == again != other


def test_what_the_layout_says_stays() -> None:
    known = [replace(image, split=Split.TEST) if int(image.patient) < 50 else image for image in _images()]
    images = assign_splits(known, share=0.2, seed=1)
    before = {image.path for image in known if image.split is Split.TEST}
    assert {image.path for image in images if image.split is Split.TEST} == before

    validated = [replace(image, split=Split.VALIDATION) if image.patient == "0" else image for image in _images()]
    assert {
        image.patient for image in assign_splits(validated, share=0.2, seed=1) if image.split is Split.VALIDATION
    } == {"0"}


def test_data_may_be_held_out_whole() -> None:
    assert {image.split for image in assign_splits(_images(), share=0.2, seed=1, held_out=True)} == {Split.TEST}
    assert {image.split for image in assign_splits(_images(), share=0, seed=1)} == {Split.TRAIN}


def test_at_least_one_patient_is_drawn() -> None:
    assert len(draw_patients({"a": ["x"] * 9, "b": ["x"] * 9}, share=0.01, seed=0)) == 1


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ContractError, match="Expected a share"):
        assign_splits(_images(), share=share, seed=0)


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(ContractError, match="two patients"):
        assign_splits(_images(patients=1), share=0.2, seed=0)


def test_a_patient_in_two_splits_is_found() -> None:
    images = [replace(image, split=split) for image, split in zip(_images(1), (Split.TRAIN, Split.TEST), strict=False)]
    assert straddling_patients(images) == {"0": [Split.TEST, Split.TRAIN]}
