"""Regions prove their pixels only if they can be true of the image; otherwise the instance is quarantined."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from fetalmlops.domain.contracts.refusals import RefusalDetails
from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.deid import Deidentifier

GOOD = (8, 10, 71, 49)


def with_regions(files: ModuleType, *places: Any, **options: Any) -> bytes:
    sample = files.make_sample(**options)
    sample.attributes[0x0018_6011] = ("SQ", [files.region(*place[:4], spatial=(*place, 1)[4]) for place in places])
    part10: bytes = sample.part10()
    return part10


@pytest.mark.parametrize(
    ("places", "code"),
    [
        ([], "no-regions"),
        ([(0, 0, 79, 59)], "area-too-large"),
        ([(0, 1, 79, 59)], "area-too-large"),
        ([(8, 10, 81, 49)], "beyond-image"),
        ([(8, 10, 71, 61)], "beyond-image"),
        ([GOOD, (80, 10, 80, 49)], "beyond-image"),
        ([GOOD, (8, 60, 71, 60)], "beyond-image"),
        ([(71, 10, 8, 49)], "beyond-image"),
        ([GOOD, (0, 0, 200, 20)], "beyond-image"),
        ([GOOD, (10, 10, 12, 12)], "region-too-small"),
        ([(8, 10, 23, 20)], "region-too-small"),
        ([(8, 10, 71, 49, 0)], "no-region-of-a-picture"),
        ([(8, 10, 71, 49, 5)], "no-region-of-a-picture"),
        ([(0, 0, 79, 29), (0, 30, 79, 59)], "area-too-large"),
        ([GOOD] * 65, "too-many-regions"),
    ],
    ids=[
        "none",
        "whole image",
        "virtually whole image",
        "two columns beyond",
        "two rows beyond",
        "second in the column beyond",
        "second in the row beyond",
        "turned",
        "second beyond",
        "second too small",
        "too small",
        "no format",
        "graphics",
        "whole image in two",
        "too many",
    ],
)
def test_regions_that_prove_nothing(files: ModuleType, deidentifier: Deidentifier, places: Any, code: str) -> None:
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(with_regions(files, *places))
    assert error.value.reason == "pixels-unproven"
    assert error.value.details == RefusalDetails(code=code, rows=60, columns=80, frames=1)


@pytest.mark.parametrize(
    ("places", "rectangles"),
    [
        ([GOOD], [(8, 10, 72, 50)]),
        ([(8, 10, 79, 59)], [(8, 10, 80, 60)]),
        ([(8, 10, 80, 49)], [(8, 10, 80, 50)]),
        ([(8, 10, 71, 60)], [(8, 10, 72, 60)]),
        ([(0, 10, 40, 49), (40, 10, 80, 60)], [(0, 10, 41, 50), (40, 10, 80, 60)]),
        ([(0, 10, 39, 49), (40, 10, 79, 49, 2)], [(0, 10, 40, 50), (40, 10, 80, 50)]),
        ([GOOD, (0, 0, 5, 5, 0)], [(8, 10, 72, 50)]),
        ([GOOD, (72, 10, 79, 49, 5)], [(8, 10, 72, 50)]),
    ],
    ids=[
        "one",
        "to the last pixel",
        "one column beyond",
        "one row beyond",
        "one pixel beyond, of two",
        "side by side",
        "beside one without format",
        "beside graphics",
    ],
)
def test_regions_that_prove_their_pixels(
    files: ModuleType, deidentifier: Deidentifier, places: Any, rectangles: Any
) -> None:
    output, result = deidentifier.deidentify_bytes(with_regions(files, *places))
    assert result.report.rectangles == rectangles
    assert result.report.pixel_action == "regions"
    regions = pydicom.dcmread(io.BytesIO(output)).SequenceOfUltrasoundRegions
    bounds = [(region.RegionLocationMaxX1 + 1, region.RegionLocationMaxY1 + 1) for region in regions]
    assert bounds == [rectangle[2:] for rectangle in rectangles], "the clean file's regions are within its image"


def test_a_place_that_cannot_be_read_discredits_all(files: ModuleType, deidentifier: Deidentifier) -> None:
    for broken in (("UL", b"CANARY!!"), ("UL", b""), ("LO", b"8   "), ("UL", files.u32(0xFFFF_FFFF))):
        sample = files.make_sample()
        sample.attributes[0x0018_6011] = ("SQ", [files.region(*GOOD), files.region(*GOOD) | {0x0018_6018: broken}])
        with pytest.raises(PermanentError, match="valid ultrasound regions") as error:
            deidentifier.deidentify_bytes(sample.part10())
        assert error.value.details is not None
        assert error.value.details.code in {"region-unreadable", "beyond-image"}


def test_regions_of_a_capture_prove_nothing(files: ModuleType, deidentifier: Deidentifier) -> None:
    part10 = with_regions(files, GOOD, sop_class="1.2.840.10008.5.1.4.1.1.7")
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(part10)
    assert error.value.reason == "pixels-unproven"
    assert error.value.details is not None
    assert error.value.details.code == "not-an-ultrasound-image"
    _, result = deidentifier.deidentify_bytes(part10, source_clean=True)
    assert result.report.pixel_action == "source_clean"


def test_burned_in_annotation_is_never_believed(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample()
    del sample.attributes[0x0018_6011]
    sample.attributes[0x0028_0301] = ("CS", b"NO")
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(sample.part10())
    assert error.value.reason == "pixels-unproven"


@pytest.mark.parametrize("word", [b"YES", b"yes ", b"CANARY"])
def test_an_instance_that_says_burned_in_is_never_clean(
    files: ModuleType, deidentifier: Deidentifier, word: bytes
) -> None:
    sample = files.make_sample()
    sample.attributes[0x0028_0301] = ("CS", word)
    _, result = deidentifier.deidentify_bytes(sample.part10(), source_clean=True)
    assert result.report.pixel_action == "regions"
    del sample.attributes[0x0018_6011]
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(sample.part10(), source_clean=True)
    assert error.value.reason == "pixels-unproven"


def test_the_policy_is_part_of_the_digest() -> None:
    import dataclasses

    looser = dataclasses.replace(STREAM, regions=dataclasses.replace(STREAM.regions, most_share=0.99))
    assert looser.digest != STREAM.digest
    assert len(STREAM.digest) == 64
