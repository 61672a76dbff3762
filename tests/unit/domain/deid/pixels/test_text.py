"""Text in what is kept: measurements may stay, anything else sends the image to quarantine."""

from __future__ import annotations

import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from pydicom.encaps import encapsulate

from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.pixels.search import TextSearch
from fetalmlops.domain.deid.pixels.text import ALLOWED, FoundText, TextCheck
from fetalmlops.domain.deid.pixels.trust import TextVerdict
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.decoding import DecodedFrame
from fetalmlops.domain.imaging.encoding import encode_frames
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.imaging.source import FrameSource

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

CHECKED = TextVerdict.UNTRUSTED_CHECKED


class Fake:
    """Finds what it is told to, and keeps the pictures that it was shown."""

    def __init__(self, *found: FoundText) -> None:
        self.found = list(found)
        self.pictures: list[NDArray[np.uint8]] = []

    def find(self, frame: NDArray[np.uint8]) -> list[FoundText]:
        self.pictures.append(frame)
        return self.found


def found(text: str, confidence: float = 0.9) -> FoundText:
    return FoundText((2, 3, 2 + 7 * max(len(text), 4), 15), text, confidence)


def searched(frame: DecodedFrame) -> tuple[NDArray[np.uint8], ...]:
    """Return the pictures that one frame is searched in."""
    search = TextSearch(TextCheck(Fake()), ((0, 0, 20, 20),))
    search.watch(frame)
    return search.pictures


def compressed(files: ModuleType, count: int) -> Any:
    """Return a sample of speckle in JPEG-LS."""
    pixels: Any = files.speckle(count, 60, 80)
    frames = list(
        encode_frames(DecodedFrame(n, frame, Photometric.MONOCHROME2, 8) for n, frame in enumerate(pixels, 1))
    )
    sample = files.make_sample("1.2.840.10008.1.2.4.80", frames=count)
    sample.pixels = encapsulate(frames, has_bot=False) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return sample


MEASUREMENTS = [
    "BPD 4.71 cm",
    "BPD4.71cm",
    "L12-5",
    "3850Hz",
    "1.3 2.6",
    "cm/",
    "Dyn R 58",
    "Asc Ao Diam 3.3 cm",
    "1 D 3.4 cm",
    "HC: 18.0cm",
    "MI 1.2",
    "TIs 0.4",
    "12 cm",
    "+ Dist 23.4 mm",
    "FL",
    "45 fps",
    "78%",
    "2. AC 15.2 cm",
    "dB",
    "R",
]


@pytest.mark.parametrize("text", MEASUREMENTS)
def test_measurements_may_stay(text: str) -> None:
    assert ALLOWED.allows(found(text))


@pytest.mark.parametrize(
    "text",
    [
        "CANARY^JANE",
        "DOE",
        "Jane Doe 4.7 cm",
        "BPD DOE",
        "31.01.1990",
        "31/01/1990",
        "31-01-1990",
        "31 01 90",
        "1990",
        "1990A",
        "31-01-90",
        "K12-34567",
        "19900131",
        "1234567",
        "EDD 12.03.",
        "LMP",
        "12:30:45",
        "ST MARY",
        "ID4711",
        "4711",
        "金絲雀",
        "a long text that is badly read",
    ],
)
@pytest.mark.parametrize("confidence", [0.95, 0.3])
def test_other_text_is_a_finding_however_badly_it_is_read(text: str, confidence: float) -> None:
    assert not ALLOWED.allows(found(text, confidence))


def test_specks_and_caliper_marks_are_no_text() -> None:
    assert ALLOWED.allows(found("J", 0.2))
    assert not ALLOWED.allows(found("JD", 0.8))
    assert ALLOWED.findings([found(mark) for mark in "+X+十\u00d7"]) == []
    assert ALLOWED.findings([found(marks) for marks in ("X.", "x..", "+ +", "—", "X-X", ". .")]) == []


def test_a_word_in_a_square_that_is_badly_read_is_texture_and_lines_of_text_are_not() -> None:
    assert ALLOWED.allows(FoundText((42, 92, 120, 176), "SANAT", 0.48))
    assert ALLOWED.allows(FoundText((0, 88, 181, 293), "NNR", 0.51))
    assert not ALLOWED.allows(FoundText((0, 88, 181, 293), "NNR", 0.85))
    assert not ALLOWED.allows(FoundText((42, 92, 120, 176), "SANAT", 0.85))
    assert not ALLOWED.allows(FoundText((42, 92, 120, 112), "SANAT", 0.48))
    assert not ALLOWED.allows(FoundText((42, 92, 62, 170), "SANAT", 0.48))
    assert not ALLOWED.allows(FoundText((42, 92, 192, 142), "CANARYID4711", 0.3))


def test_a_letter_with_marks_around_it_is_a_lone_one_and_a_name_is_not() -> None:
    assert ALLOWED.findings([found("XuX"), found("—1")]) == []
    assert len(ALLOWED.findings([found("XuX"), found("—1"), found("J.")])) == 3
    for name in ("XU", "X. XI", "+JD+", "XANDX", "U.X"):
        assert len(ALLOWED.findings([found(name)])) == 1


def test_letters_far_apart_are_a_finding_where_one_alone_is_a_speck() -> None:
    assert ALLOWED.findings([found("J"), found("金")]) == []
    assert len(ALLOWED.findings([found("J"), found("A"), found("N"), found("E"), found("HC")])) == 4
    assert len(ALLOWED.findings([found("J"), found("JANE")])) == 1


def test_a_finding_refuses_the_image_and_says_where_but_not_what(files: ModuleType, key: PseudonymKey) -> None:
    deidentifier = Deidentifier(key, text=TextCheck(Fake(found("CANARY^JANE"), found("HC 4 cm"))))
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(files.make_sample().part10(), verdict=CHECKED)
    assert error.value.reason == "text-found"
    assert "[10, 13, 87, 25]" in str(error.value)  # in the image: the region begins at 8, 10
    assert "CANARY" not in str(error.value)


def test_allowed_text_passes_and_leaves_evidence_without_words(files: ModuleType, key: PseudonymKey) -> None:
    part10 = files.make_sample(frames=3).part10()
    fake = Fake(found("HC 4 cm"))
    output, result = Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(part10, verdict=CHECKED)
    report = result.report
    assert (report.text_verdict, report.text_passes, report.text_allowed) == ("untrusted-checked", 2, 2)
    assert b"HC" not in msgspec.json.encode(report)
    assert len(fake.pictures) == 2
    assert output == Deidentifier(key).deidentify_bytes(part10)[0]


def test_a_trusted_scanner_costs_no_pass(files: ModuleType, key: PseudonymKey) -> None:
    fake = Fake(found("CANARY"))
    part10 = files.make_sample().part10()
    _, result = Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(part10, verdict=TextVerdict.TRUSTED)
    assert fake.pictures == []
    assert (result.report.text_verdict, result.report.text_passes) == ("trusted", 0)


def test_a_source_declared_clean_is_believed(files: ModuleType, key: PseudonymKey) -> None:
    fake = Fake(found("CANARY"))
    deidentifier = Deidentifier(key, text=TextCheck(fake))
    _, result = deidentifier.deidentify_bytes(files.make_sample().part10(), source_clean=True, verdict=CHECKED)
    assert (fake.pictures, result.report.text_verdict) == ([], "")


def test_nothing_passes_unchecked_for_want_of_a_detector(files: ModuleType, key: PseudonymKey) -> None:
    with pytest.raises(PermanentError) as error:
        Deidentifier(key).deidentify_bytes(files.make_sample().part10(), verdict=CHECKED)
    assert error.value.reason == "pixels-unproven"


def test_only_what_is_kept_is_shown_to_the_detector(files: ModuleType, key: PseudonymKey) -> None:
    fake = Fake()
    sample = files.make_sample(frames=4)
    sample.attributes[0x0018_6011] = ("SQ", [files.region(8, 10, 39, 29), files.region(50, 20, 69, 49)])
    Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(sample.part10(), verdict=CHECKED)
    pixels = np.frombuffer(sample.pixels, np.uint8).reshape(4, 60, 80)
    for picture, flat in zip(fake.pictures, (pixels.min(axis=0), pixels.max(axis=0)), strict=True):
        expected = np.zeros((60, 80), np.uint8)
        expected[10:30, 8:40] = flat[10:30, 8:40]
        expected[20:50, 50:70] = flat[20:50, 50:70]
        assert np.array_equal(picture, expected[10:50, 8:70])


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_deep_samples_are_stretched(bits: int) -> None:
    pixels = np.full((20, 20), 30, np.uint16 if bits > 8 else np.uint8)
    pixels[5:10, 5:10] = 200
    (picture,) = searched(DecodedFrame(1, pixels, Photometric.MONOCHROME2, bits))
    assert picture.dtype == np.uint8
    assert int(picture.max()) - int(picture.min()) > 150


def test_luminance_and_chrominance_become_rgb() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[...] = (76, 85, 255)  # red
    (picture,) = searched(DecodedFrame(1, pixels, Photometric.YBR_FULL, 8))
    assert np.abs(picture[0, 0].astype(int) - (254, 0, 0)).max() <= 2


def test_deep_colours_stay_colours() -> None:
    pixels = np.zeros((20, 20, 3), np.uint16)
    pixels[...] = (65535, 0, 32896)
    (picture,) = searched(DecodedFrame(1, pixels, Photometric.RGB, 16))
    assert (picture.dtype, picture[0, 0].tolist()) == (np.uint8, [255, 0, 128])


@pytest.mark.parametrize("syntax", ["native", "lossless"])
@pytest.mark.parametrize("frames", [1, 3, 40])
def test_a_frame_is_read_and_decoded_once_for_search_and_writing(
    files: ModuleType, key: PseudonymKey, monkeypatch: pytest.MonkeyPatch, syntax: str, frames: int
) -> None:
    sample = files.make_sample(frames=frames)
    if syntax == "lossless":
        sample = compressed(files, frames)
    read: list[int] = []
    plain = FrameSource.read
    monkeypatch.setattr(FrameSource, "read", lambda self, number: read.append(number) or plain(self, number))
    fake = Fake()
    _, result = Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(sample.part10(), verdict=CHECKED)
    assert read == list(range(1, frames + 1))
    assert result.report.text_passes == len(fake.pictures) == (1 if frames == 1 else 2)


def test_what_is_held_of_a_clip_does_not_grow_with_its_length() -> None:
    search = TextSearch(TextCheck(Fake()), ((0, 0, 600, 400),))
    frame = np.random.default_rng(0).integers(0, 255, (400, 600), np.uint8)
    for number in range(3):
        search.watch(DecodedFrame(number, frame, Photometric.MONOCHROME2, 8))
    tracemalloc.start()
    for number in range(3, 200):
        search.watch(DecodedFrame(number, frame, Photometric.MONOCHROME2, 8))
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < frame.nbytes // 10
    assert most < 4 * frame.nbytes


def test_palettes_are_looked_up(files: ModuleType, key: PseudonymKey) -> None:
    sample = files.make_sample(photometric="PALETTE COLOR")
    table = np.arange(255, -1, -1, np.uint8).tobytes()
    for colour in range(3):
        sample.attributes[0x0028_1101 + colour] = ("US", files.u16(256, 0, 8))
        sample.attributes[0x0028_1201 + colour] = ("OW", table)
    fake = Fake()
    Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(sample.part10(), verdict=CHECKED)
    pixels = np.frombuffer(sample.pixels, np.uint8).reshape(60, 80)
    assert np.array_equal(fake.pictures[0], 255 - pixels[10:50, 8:72])


def test_colours_of_palettes_are_told_apart_where_their_sums_are_equal(files: ModuleType, key: PseudonymKey) -> None:
    sample = files.make_sample(photometric="PALETTE COLOR")
    ramp = np.arange(256, dtype=np.uint8)
    for colour, table in enumerate((ramp, 255 - ramp, np.full(256, 90, np.uint8))):
        sample.attributes[0x0028_1101 + colour] = ("US", files.u16(256, 0, 8))
        sample.attributes[0x0028_1201 + colour] = ("OW", table.tobytes())
    fake = Fake()
    Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(sample.part10(), verdict=CHECKED)
    pixels = np.frombuffer(sample.pixels, np.uint8).reshape(60, 80)[10:50, 8:72]
    expected = np.stack([pixels, 255 - pixels, np.full_like(pixels, 90)], axis=-1)
    assert np.array_equal(fake.pictures[0], expected)


def test_compressed_clips_take_two_passes(files: ModuleType, key: PseudonymKey) -> None:
    fake = Fake()
    sample = compressed(files, 5)
    Deidentifier(key, text=TextCheck(fake)).deidentify_bytes(sample.part10(), verdict=CHECKED)
    assert len(fake.pictures) == 2
    assert np.array_equal(fake.pictures[1], files.speckle(5, 60, 80).max(axis=0)[10:50, 8:72])
