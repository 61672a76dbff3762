"""A person's release: what it may say, what it keeps, and that it goes before every other proof."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pydicom
import pytest

from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.pixels.release import MOST_AREAS, Release, cut_out
from fetalmlops.domain.deid.pixels.text import FoundText, TextCheck
from fetalmlops.domain.deid.pixels.trust import TextVerdict
from fetalmlops.domain.errors import ContractError, PermanentError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

ENTRY = "96c5a516-bafe-8a00-8879-fda4b0e55161"


def state(**changes: Any) -> Release:
    values = {
        "project": "tests",
        "patient": "1" * 32,
        "content_id": "2" * 32,
        "entry_id": ENTRY,
        "rows": 60,
        "columns": 80,
        "keep": ((8, 10, 72, 50),),
        "account": "sonographer-7",
        "reason": "nothing but the picture",
    }
    return Release.state(**values | changes)


def unproven(files: ModuleType, **more: Any) -> Any:
    sample = files.make_sample(**more)
    del sample.attributes[0x0018_6011]
    return sample


class Reader:
    """Finds the same text in every picture, once or more often."""

    def __init__(self, box: tuple[int, int, int, int], times: int = 1) -> None:
        self.box = box
        self.times = times

    def find(self, frame: NDArray[np.uint8]) -> list[FoundText]:
        assert frame.size
        return [FoundText(self.box, "CANARY", 0.99)] * self.times


def test_the_released_area_is_kept_to_the_bit_and_nothing_else(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample, release = unproven(files), state(mask=((20, 20, 30, 30),))
    output, result = deidentifier.deidentify_bytes(sample.part10(), release=release)
    clean = np.frombuffer(output[-4800:], np.uint8).reshape(60, 80)
    original = np.frombuffer(sample.pixels, np.uint8).reshape(60, 80)
    shown = np.zeros((60, 80), bool)
    shown[10:50, 8:72] = True
    shown[20:30, 20:30] = False
    assert np.array_equal(clean, np.where(shown, original, 0))
    report = result.report
    assert (report.pixel_action, report.release) == ("person_mask", release.digest)
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in report.rectangles) == np.count_nonzero(shown)
    assert "person" in pydicom.dcmread(io.BytesIO(output)).DerivationDescription
    assert b"sonographer" not in output


@pytest.mark.parametrize(
    ("syntax", "photometric", "samples", "frames"),
    [
        ("1.2.840.10008.1.2.1", "RGB", 3, 3),
        ("1.2.840.10008.1.2", "MONOCHROME2", 1, 4),
        ("1.2.840.10008.1.2.2", "MONOCHROME2", 1, 1),
    ],
)
def test_every_frame_and_colour_is_masked(
    files: ModuleType, deidentifier: Deidentifier, syntax: str, photometric: str, samples: int, frames: int
) -> None:
    sample = unproven(files, transfer_syntax=syntax, photometric=photometric, samples=samples, frames=frames)
    output, _ = deidentifier.deidentify_bytes(sample.part10(), release=state())
    clean = pydicom.dcmread(io.BytesIO(output)).pixel_array.reshape(frames, 60, 80, samples)
    original = np.frombuffer(sample.pixels, np.uint8).reshape(clean.shape)
    expected = np.zeros_like(clean)
    expected[:, 10:50, 8:72] = original[:, 10:50, 8:72]
    assert np.array_equal(clean, expected)


def test_without_areas_to_keep_boxes_are_cut_out_of_what_regions_prove(
    files: ModuleType, deidentifier: Deidentifier
) -> None:
    sample = files.make_sample()
    _, plain = deidentifier.deidentify_bytes(sample.part10())
    ((x0, y0, x1, y1),) = plain.report.rectangles
    box = (x0, y0, x1, y0 + 5)
    output, result = deidentifier.deidentify_bytes(sample.part10(), release=state(keep=(), mask=(box,)))
    assert result.report.rectangles == [(x0, y0 + 5, x1, y1)]
    assert pydicom.dcmread(io.BytesIO(output)).SequenceOfUltrasoundRegions
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(unproven(files).part10(), release=state(keep=(), mask=(box,)))
    assert error.value.reason == "pixels-unproven"
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(sample.part10(), release=state(keep=(), mask=((0, 0, 80, 60),)))
    assert error.value.reason == "release-invalid"


def test_a_release_holds_even_where_the_source_is_declared_clean(files: ModuleType, deidentifier: Deidentifier) -> None:
    _, result = deidentifier.deidentify_bytes(files.make_sample().part10(), source_clean=True, release=state())
    assert (result.report.pixel_action, result.report.rectangles) == ("person_mask", [(8, 10, 72, 50)])


def test_a_release_of_an_image_of_another_size_is_refused(files: ModuleType, deidentifier: Deidentifier) -> None:
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(files.make_sample().part10(), release=state(rows=61))
    assert error.value.reason == "release-invalid"


def test_a_persons_word_goes_before_the_detectors_and_what_it_found_is_recorded(files: ModuleType, key: Any) -> None:
    engine = Deidentifier(key, text=TextCheck(Reader((4, 2, 30, 12))))
    part10, checked = files.make_sample().part10(), TextVerdict.UNTRUSTED_CHECKED
    with pytest.raises(PermanentError) as error:
        engine.deidentify_bytes(part10, verdict=checked)
    assert error.value.reason == "text-found"
    assert "CANARY" not in str(error.value)
    details = error.value.details
    assert details is not None
    (x0, y0, _, _), *_ = details.rectangles
    assert [(text.box, text.frame, text.projection) for text in details.texts] == [
        ((x0 + 4, y0 + 2, x0 + 30, y0 + 12), 1, "")
    ]
    assert b"CANARY" not in msgspec.json.encode(details)
    _, result = engine.deidentify_bytes(part10, verdict=checked, release=state())
    report = result.report
    assert (report.text_passes, report.text_allowed, report.text_overruled) == (1, 0, 1)


@pytest.mark.parametrize(("times", "listed"), [(256, True), (257, False)])
def test_an_area_with_more_text_than_is_listed_is_not_said_to_be_proven(
    files: ModuleType, key: Any, times: int, *, listed: bool
) -> None:
    engine = Deidentifier(key, text=TextCheck(Reader((0, 0, 9, 9), times)))
    with pytest.raises(PermanentError) as error:
        engine.deidentify_bytes(files.make_sample().part10(), verdict=TextVerdict.UNTRUSTED_CHECKED)
    assert error.value.details is not None
    assert bool(error.value.details.rectangles) is listed
    assert len(error.value.details.texts) == 256


def test_a_clip_says_in_which_projection_text_was_found(files: ModuleType, key: Any) -> None:
    engine = Deidentifier(key, text=TextCheck(Reader((0, 0, 9, 9))))
    with pytest.raises(PermanentError) as error:
        engine.deidentify_bytes(files.make_sample(frames=3).part10(), verdict=TextVerdict.UNTRUSTED_CHECKED)
    assert error.value.details is not None
    assert [(text.frame, text.projection) for text in error.value.details.texts] == [
        (None, "darkest"),
        (None, "brightest"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"keep": (), "mask": ()},
        {"keep": ((8, 10, 81, 50),)},
        {"keep": ((8, 10, 72, 61),)},
        {"keep": ((8, 10, 8, 50),)},
        {"keep": ((72, 10, 8, 50),)},
        {"keep": ((8, 10, 23, 50),)},
        {"keep": ((-1, 10, 72, 50),)},
        {"mask": ((5, 5, 5, 6),)},
        {"mask": ((8, 10, 72, 50),)},
        {"keep": ((8, 10, 72, 50),) * (MOST_AREAS + 1)},
        {"account": ""},
        {"account": "CANARY NAME"},
        {"reason": ""},
        {"reason": "x" * 501},
        {"patient": "CANARY"},
    ],
)
def test_what_is_not_valid_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError) as error:
        state(**changes)
    assert "CANARY" not in str(error.value)
    assert "Expected" in str(error.value)


def test_the_same_release_has_the_same_record_and_every_other_another() -> None:
    release = state(mask=[[20, 20, 30, 30]])
    assert Release.parse(release.data) == release
    assert state(mask=((20, 20, 30, 30),)).digest == release.digest
    assert release.name == f"{ENTRY}/{release.digest}"
    others = [state(), state(account="b"), state(reason="b"), state(patient="3" * 32), state(keep=((8, 10, 72, 49),))]
    assert len({item.digest for item in (release, *others)}) == 6
    for data in (b"", b"{}", b"\xff", release.data[:-1], release.data.replace(b"[8,10", b"[8,-1")):
        with pytest.raises(ContractError):
            Release.parse(data)


def test_cutting_out_leaves_exactly_what_is_not_in_a_box() -> None:
    random = np.random.default_rng(5)

    def some(count: int) -> list[tuple[int, int, int, int]]:
        corners = np.sort(random.integers(0, 40, (count, 2, 2)), axis=1)
        return [(int(x0), int(y0), int(x1) + 1, int(y1) + 1) for (x0, y0), (x1, y1) in corners]

    def cover(areas: Any) -> NDArray[np.bool_]:
        covered = np.zeros((41, 41), bool)
        for x0, y0, x1, y1 in areas:
            covered[y0:y1, x0:x1] = True
        return covered

    for _ in range(200):
        areas, boxes = some(3), some(4)
        pieces = cut_out(areas, boxes)
        assert np.array_equal(cover(pieces), cover(areas) & ~cover(boxes))
        assert all(x0 < x1 and y0 < y1 for x0, y0, x1, y1 in pieces)
