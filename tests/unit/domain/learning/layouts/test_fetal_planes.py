"""FETAL_PLANES_DB's table is read as its authors write it, blanks and all, and everything else is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts.fetal_planes import read_fetal_planes
from fetalmlops.domain.learning.manifest import Split
from support.datasets import HEADER, ROWS, TABLE_TEXT

REAL = Path(__file__).parents[6] / "shared/data/fetal_planes/FETAL_PLANES_DB_data.csv"
NAMES = {f"{row.partition(';')[0]}.png" for row in ROWS}


def test_labels_and_the_official_split_are_read() -> None:
    listing = read_fetal_planes(TABLE_TEXT, NAMES)

    first, brain, *_, last = listing.images
    assert (first.path, first.patient, first.plane) == ("Images/Patient00001_Plane1_1_of_2.png", "1", Plane.OTHER)
    assert (brain.plane, brain.brain_plane) == (Plane.BRAIN, BrainPlane.TRANS_THALAMIC)
    assert (brain.operator, brain.scanner, brain.split) == ("Op. 3", "Aloka", Split.TRAIN)
    assert (last.split, last.plane, last.brain_plane) == (Split.TEST, Plane.THORAX, None)
    assert listing.images[3].brain_plane is BrainPlane.OTHER


def test_a_byte_order_mark_and_blanks_do_not_count() -> None:
    spaced = "\ufeff" + TABLE_TEXT.replace(";", " ; ")
    assert read_fetal_planes(spaced, NAMES) == read_fetal_planes(TABLE_TEXT, NAMES)


def test_absent_images_are_refused_unless_the_set_may_be_partial() -> None:
    some = sorted(NAMES)[:2]
    with pytest.raises(ContractError, match=r"Expected the 6 images .* got 2; .*--partial"):
        read_fetal_planes(TABLE_TEXT, some)
    listing = read_fetal_planes(TABLE_TEXT, some, partial=True)
    assert len(listing.images) == 2
    assert listing.excluded == {"absent": 4}
    with pytest.raises(ContractError, match="got none"):
        read_fetal_planes(TABLE_TEXT, [], partial=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a;1;Fetal knee;Not A Brain;Other;Aloka;1 ", "known plane"),
        ("a;1;Other;Not A Brain;Other;Aloka;2 ", "1 or 0 for Train"),
        ("a;;Other;Not A Brain;Other;Aloka;1 ", "a patient"),
        ("a;1;Fetal brain;Not A Brain;Other;Aloka;1 ", "brains only"),
        ("a;1;Other;Trans-thalamic;Other;Aloka;1 ", "brains only"),
        ("a;1;Fetal brain;Trans-something;Other;Aloka;1 ", "known brain plane"),
        ("a;1;Other", "Expected 7 values"),
        (ROWS[0], "once"),
    ],
)
def test_a_row_that_is_wrong_is_refused_without_its_values(line: str, message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        read_fetal_planes(f"{TABLE_TEXT}{line}\n", NAMES)
    assert "row 8" in str(caught.value)
    assert "knee" not in str(caught.value)


@pytest.mark.parametrize("table", ["", "a,b\n1,2\n", HEADER.replace("US_Machine", "Scanner")])
def test_another_table_is_refused(table: str) -> None:
    with pytest.raises(ContractError, match="the columns"):
        read_fetal_planes(table, NAMES)


@pytest.mark.skipif(not REAL.is_file(), reason="the published table is not at hand")
def test_the_published_table_gives_its_published_figures() -> None:
    table = REAL.read_text("utf-8")
    names = {f"{line.partition(';')[0]}.png" for line in table.splitlines()[1:]}

    images = read_fetal_planes(table, names).images

    assert Counter(image.split for image in images) == {Split.TRAIN: 7129, Split.TEST: 5271}
    patients = {
        split: {image.patient for image in images if image.split is split} for split in (Split.TRAIN, Split.TEST)
    }
    assert [len(found) for found in patients.values()] == [896, 896]
    assert not patients[Split.TRAIN] & patients[Split.TEST]
    assert Counter(image.plane for image in images) == {
        Plane.OTHER: 4213,
        Plane.BRAIN: 3092,
        Plane.THORAX: 1718,
        Plane.CERVIX: 1626,
        Plane.FEMUR: 1040,
        Plane.ABDOMEN: 711,
    }
