"""Phantom data sets: proportions, what reads back through their layouts, and the same pixels for the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts.fetal_planes import read_fetal_planes
from fetalmlops.domain.learning.layouts.folders import patients_from_table, read_folders
from fetalmlops.domain.learning.layouts.listing import Listed
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.phantoms.images import PhantomSet, render_phantom
from fetalmlops.domain.learning.phantoms.published import PUBLISHED_IMAGES, plan_published
from fetalmlops.domain.learning.phantoms.scanners import SCANNERS_OF, USUAL_IMAGES, plan_scanners
from fetalmlops.domain.simulation import find_scanner


def listed(plan: PhantomSet) -> list[Listed]:
    """What the layouts read of a plan, with its images' paths and labels in the plan's order."""
    paths = [image.path for image in plan.images]
    if plan.table_path == "patients.csv":
        read = {image.path: image for image in read_folders(paths, patients_from_table(plan.table)).images}
        images = [read[path] for path in paths]
    else:
        images = [*read_fetal_planes(plan.table, {path.partition("/")[2] for path in paths}).images]
    told = [(image.path, image.plane, image.brain_plane) for image in images]
    assert told == [(image.path, image.plane, image.brain_plane) for image in plan.images]
    return images


def test_at_the_published_size_its_figures_are_the_published_ones() -> None:
    images = listed(plan_published(PUBLISHED_IMAGES, seed=1))

    assert len(images) == 12_400
    assert Counter(image.split for image in images) == {Split.TRAIN: 7129, Split.TEST: 5271}
    patients = [{image.patient for image in images if image.split is split} for split in (Split.TRAIN, Split.TEST)]
    assert [len(found) for found in patients] == [896, 896]
    assert not patients[0] & patients[1]
    assert Counter(image.plane for image in images)[Plane.ABDOMEN] == 711
    assert Counter(image.brain_plane for image in images if image.plane is Plane.BRAIN).total() == 3092
    scanners = Counter(image.scanner for image in images)
    assert abs(scanners["Simulated delta"] - 5862) < 60
    assert abs(scanners["Other"] - 342) < 60
    sizes = Counter(Counter(image.patient for image in images).values())
    assert 500 < sizes[1] < 700, "a third of the published patients have one image"


def test_the_table_is_written_as_its_authors_do() -> None:
    header, first, *_ = plan_published(60, seed=1).table.splitlines()
    assert header == "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
    assert first.endswith((";1 ", ";0 "))


@pytest.mark.parametrize("images", [20, 61, 300])
def test_small_sets_keep_names_patients_and_both_splits(images: int) -> None:
    read = listed(plan_published(images, seed=2))
    assert len({image.path for image in read}) == len(read) == images
    assert {image.split for image in read} == {Split.TRAIN, Split.TEST}
    assert one_scanner_and_split_a_patient(read)


def one_scanner_and_split_a_patient(images: list[Listed]) -> bool:
    of_patient: dict[str, set[tuple[Split, str]]] = {}
    for image in images:
        of_patient.setdefault(image.patient, set()).add((image.split, image.scanner))
    return all(len(found) == 1 for found in of_patient.values())


def test_no_scanner_of_a_split_is_in_another() -> None:
    images = listed(plan_scanners(USUAL_IMAGES, seed=1))
    assert Counter(image.split for image in images) == {Split.TRAIN: 3000, Split.VALIDATION: 450, Split.TEST: 600}
    for split, scanners in SCANNERS_OF.items():
        found = [image for image in images if image.split is split]
        assert {image.scanner for image in found} == set(scanners)
        assert {image.plane for image in found} == set(PLANES)
    assert len({name for scanners in SCANNERS_OF.values() for name in scanners}) == sum(map(len, SCANNERS_OF.values()))
    assert one_scanner_and_split_a_patient(images)


def test_a_larger_set_holds_the_images_of_a_smaller_one_and_another_seed_other_patients() -> None:
    small, large, other = plan_scanners(60, seed=1), plan_scanners(300, seed=1), plan_scanners(60, seed=2)
    assert set(small.images) < set(large.images)
    assert not {image.patient for image in listed(small)} & {image.patient for image in listed(other)}
    assert small.table != other.table


@pytest.mark.parametrize("plan", [plan_published, plan_scanners])
def test_seeds_decide_plan_and_pixels(plan: Callable[..., PhantomSet]) -> None:
    assert plan(60, seed=1) == plan(60, seed=1) != plan(60, seed=2)
    first, second = plan(60, seed=1).images[:2]
    np.testing.assert_array_equal(render_phantom(first), render_phantom(first))
    assert not np.array_equal(render_phantom(first), render_phantom(second))


def test_what_decides_the_pixels_of_a_seed_stays_what_it_was() -> None:
    whole, cropped = (plan(60, seed=1).images[7] for plan in (plan_published, plan_scanners))
    assert (whole.path, whole.scanner, whole.seed) == ("Images/Patient00001_Plane6_1_of_3.png", "delta", (1, 7))
    assert (cropped.path, cropped.scanner, cropped.seed) == (
        "train/brain/trans-ventricular/00007.png",
        "alpha",
        (1, 0, 7),
    )
    scanner = find_scanner(whole.scanner)
    assert render_phantom(whole).shape == (scanner.rows, scanner.columns)
    assert render_phantom(cropped).shape < (600, 800)


@pytest.mark.parametrize("plan", [plan_published, plan_scanners])
def test_too_few_images_are_refused(plan: Callable[..., PhantomSet]) -> None:
    with pytest.raises(ContractError, match="Expected 20 images or more, got 19"):
        plan(19, seed=1)
