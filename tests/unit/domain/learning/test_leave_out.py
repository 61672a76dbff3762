"""What is left out has no part; the gap is what a group's own images are worth."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.intervals import Sampling
from fetalmlops.domain.learning.leave_out import change_of, groups_to_leave, images_of_group, leave_out_figures, without
from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry, Split
from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.models.manifest import Calibration, DecisionRule

RULE = DecisionRule(accept=0.5, accept_brain=0.5)
SAMPLING = Sampling(200)


def image(number: int, scanner: str, split: Split, patient: str = "") -> ImageEntry:
    return ImageEntry(
        path=f"{number}.png",
        sha256=f"{number:064x}",
        pixels=f"{number:064x}",
        hash="0" * 16,
        patient=patient or f"p{number // 2}",
        split=split,
        plane=PLANES[number % len(PLANES)],
        scanner=scanner,
        rows=10,
        columns=10,
    )


def manifest(*more: ImageEntry) -> DataManifest:
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST)
    images = [
        image(100 * row + 20 * column + number, scanner, split)
        for row, scanner in enumerate("abc")
        for column, split in enumerate(splits)
        for number in range(12)
    ]
    return DataManifest(name="some", layout="x", licence="x", images=[*images, *more])


def said(images: list[ImageEntry], wrong: int) -> tuple[Predictions, DecisionRule]:
    """Predictions that are right but for the first images of a scanner."""
    labels = np.array([PLANES.index(each.plane) for each in images if each.plane])
    labels[:wrong] = (labels[:wrong] + 1) % len(PLANES)
    count = len(images)
    return (
        Predictions(
            images=images,
            logits=8 * np.eye(len(PLANES), dtype=np.float32)[labels],
            brain_logits=np.empty((count, 0), np.float32),
            features=np.empty((count, 0), np.float32),
            ood=np.full(count, np.nan),
            contrast=np.full(count, 0.2),
            sharpness=np.full(count, 0.2),
            calibration=Calibration(),
        ),
        RULE,
    )


def test_a_group_left_out_test_images_and_unknown_groups_have_no_part() -> None:
    data = manifest(image(900, "", Split.TRAIN))
    shown = without(data, "scanner", "b")
    assert {each.scanner for each in shown.of(Split.TRAIN)} == {"a", "c"}
    assert {each.scanner for each in shown.of(Split.VALIDATION)} == {"a", "c"}
    assert not shown.of(Split.TEST)
    assert [each.sha256 for each in shown.images] == [each.sha256 for each in data.images]
    assert {each.scanner for each in without(data, "scanner").of(Split.TRAIN)} == {"a", "b", "c"}


def test_what_cannot_be_left_out_is_told() -> None:
    data = manifest(image(900, "old", Split.TRAIN), image(902, "new", Split.TEST), image(904, "", Split.TRAIN))
    found = groups_to_leave(data, "scanner")
    assert found.groups == ["a", "b", "c"]
    assert found.kept["old"] == "no images for test"
    assert "no bundle learns from it anyway" in found.kept["new"]
    assert found.unknown == 1


@pytest.mark.parametrize("fault", ["one scanner", "one with validation", "a patient in two splits"])
def test_data_that_say_nothing_of_new_scanners_are_refused(fault: str) -> None:
    data = manifest()
    images = data.images
    if fault == "one scanner":
        images = [each for each in images if each.scanner == "a"]
    elif fault == "one with validation":
        images = [each for each in images if each.scanner == "a" or each.split is not Split.VALIDATION]
        data = msgspec.structs.replace(data, images=[each for each in images if each.scanner != "c"])
        images = data.images
    else:
        images = [msgspec.structs.replace(each, patient="one") for each in images]
    with pytest.raises(ContractError, match="one split" if "patient" in fault else "two scanners or more"):
        groups_to_leave(msgspec.structs.replace(data, images=images), "scanner")


def test_the_gap_is_what_a_group_of_its_own_is_worth() -> None:
    images = {name: images_of_group(manifest(), "scanner", name) for name in "abc"}
    left = {"a": said(images["a"], 6), "b": said(images["b"], 3), "c": said(images["c"], 0)}
    within = {name: said(images[name], 0) for name in "abc"}
    found = leave_out_figures(left, within, sampling=SAMPLING)
    assert [each.gap.value for each in found.groups.values() if each.gap] == [0.5, 0.25, 0.0]
    worst = found.groups["a"].gap
    assert worst is not None
    assert worst.low is not None
    assert worst.low > 0
    same = found.groups["c"].gap
    assert same is not None
    assert same.low is not None
    assert same.low < -0.2  # six patients without a difference prove no equality
    assert found.left_out["accuracy"].value == pytest.approx(0.75)
    assert found.gap is not None
    assert found.gap.value == pytest.approx(0.25)
    assert (found.left_out["accuracy"].images, found.left_out["accuracy"].patients) == (36, 18)
    alone = leave_out_figures(left, {}, sampling=SAMPLING)
    assert alone.gap is None
    assert alone.left_out == found.left_out


def test_another_recipe_is_compared_on_the_same_images() -> None:
    images = {name: images_of_group(manifest(), "scanner", name) for name in "abc"}
    within = {name: said(images[name], 0) for name in "abc"}
    plain = {name: said(images[name], 6) for name in "abc"}
    better = {name: said(images[name], 3) for name in "abc"}
    change = change_of((plain, within), (better, within), sampling=SAMPLING)
    assert [each.value for each in change.groups.values()] == [0.25] * 3
    assert change.gap is not None
    assert (change.accuracy.value, change.gap.value) == (0.25, -0.25)
    with pytest.raises(ContractError, match="the same images"):
        change_of((plain, within), ({"a": plain["a"]}, {}), sampling=SAMPLING)


def test_a_group_without_test_images_is_refused() -> None:
    with pytest.raises(ContractError, match="of the scanner d, got none; there are a, b, c"):
        images_of_group(manifest(), "scanner", "d")
