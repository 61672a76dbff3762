"""Every transfer syntax and colour: the region decodes bit-identical, all else is black, nothing hides beside the pixels."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from fetalmlops.domain.deid.pixels.frames import read_frames
from fetalmlops.domain.deid.pixels.release import Release
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.decoding import black, iter_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.layout import Photometric as Colour
from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, Kind, Layout, Photometric, make_instance

if TYPE_CHECKING:
    from fetalmlops.domain.deid import Deidentifier

GREY = (Photometric.MONOCHROME1, Photometric.MONOCHROME2)
PLAIN = (*GREY, Photometric.PALETTE, Photometric.RGB, Photometric.YBR_FULL)
NATIVE = (*PLAIN, Photometric.YBR_FULL_422)
COLOURS: dict[str, tuple[Photometric, ...]] = {
    uid.ImplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRLittleEndian: NATIVE,
    uid.ExplicitVRBigEndian: NATIVE,
    uid.DeflatedExplicitVRLittleEndian: NATIVE,
    uid.RLELossless: PLAIN,
    uid.JPEGBaseline8Bit: (*GREY, Photometric.YBR_FULL, Photometric.YBR_FULL_422),
    uid.JPEGExtended12Bit: GREY,
    uid.JPEGLossless: PLAIN,
    uid.JPEGLosslessSV1: PLAIN,
    uid.JPEGLSLossless: PLAIN,
    uid.JPEGLSNearLossless: (*GREY, Photometric.RGB),
    uid.JPEG2000Lossless: (*GREY, Photometric.PALETTE, Photometric.RGB, Photometric.YBR_RCT),
    uid.JPEG2000: (*GREY, Photometric.RGB, Photometric.YBR_ICT),
}
CASES = [(syntax, colour) for syntax, colours in COLOURS.items() for colour in colours]
ENCAPSULATED = [syntax for syntax in COLOURS if syntax.is_encapsulated]
JPEG_FAMILY = [s for s in ENCAPSULATED if s not in (uid.RLELossless, uid.JPEG2000, uid.JPEG2000Lossless)]
DEEP = [s for s in COLOURS if s not in (uid.JPEGBaseline8Bit, uid.RLELossless)]
SMALL = min(SCANNERS, key=lambda scanner: scanner.rows * scanner.columns)


def simulated(syntax: str, colour: Photometric = Photometric.MONOCHROME2, **layout: Any) -> tuple[bytes, Any]:
    """Return two frames of a screen with a name beside the picture, and where the picture is."""
    spec = InstanceSpec(
        scanner=SMALL,
        kind=Kind.ULTRASOUND_MULTIFRAME,
        frames=2,
        transfer_syntax=syntax,
        layout=Layout(photometric=colour, **layout),
    )
    made = make_instance(spec)
    return made.data, made.region


def frames_of(part10: bytes) -> list[Any]:
    """Decode all frames; those of a deflated dataset are read where it is not."""
    dataset = pydicom.dcmread(io.BytesIO(part10))
    if dataset.file_meta.TransferSyntaxUID.is_deflated:
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        inflated = io.BytesIO()
        dataset.save_as(inflated)
        part10 = inflated.getvalue()
    return list(iter_frames(open_image(io.BytesIO(part10)).source))


def check_kept(before: bytes, after: bytes, rectangles: list[tuple[int, int, int, int]]) -> None:
    palette = open_image(io.BytesIO(after)).palette
    for original, clean in zip(frames_of(before), frames_of(after), strict=True):
        assert clean.photometric is original.photometric
        outside = np.ones(clean.pixels.shape[:2], bool)
        for x0, y0, x1, y1 in rectangles:
            outside[y0:y1, x0:x1] = False
        assert np.array_equal(original.pixels[~outside], clean.pixels[~outside])
        assert len(np.unique(clean.pixels[~outside])) > 20
        dark = black(Colour(clean.photometric), clean.bits, palette)
        assert (clean.pixels[outside].reshape(-1, len(dark)) == dark).all()
        assert (original.pixels[outside].reshape(-1, len(dark)) != dark).any()


@pytest.mark.parametrize(("syntax", "colour"), CASES, ids=[f"{s.name}-{c}" for s, c in CASES])
def test_what_is_kept_decodes_bit_identical(deidentifier: Deidentifier, syntax: str, colour: Photometric) -> None:
    before, _ = simulated(syntax, colour)
    after, result = deidentifier.deidentify_bytes(before)
    check_kept(before, after, result.report.rectangles)


@pytest.mark.parametrize(("syntax", "colour"), CASES, ids=[f"{s.name}-{c}" for s, c in CASES])
def test_what_a_person_releases_decodes_bit_identical_and_can_be_looked_at(
    deidentifier: Deidentifier, syntax: str, colour: Photometric
) -> None:
    (before, _), (x0, y0, x1, y1) = simulated(syntax, colour), SMALL.area
    mask = (x0 + 41, y0 + 43, x0 + 77, y0 + 90)
    release = Release.state(
        project="tests",
        patient="1" * 32,
        content_id="2" * 32,
        entry_id="96c5a516-bafe-8a00-8879-fda4b0e55161",
        rows=SMALL.rows,
        columns=SMALL.columns,
        keep=((x0 + 1, y0 + 1, x1 - 2, y1 - 2),),
        mask=(mask,),
        account="a",
        reason="b",
    )
    after, result = deidentifier.deidentify_bytes(before, release=release)
    check_kept(before, after, result.report.rectangles)
    kept = np.zeros((SMALL.rows, SMALL.columns), bool)
    for a, b, c, d in result.report.rectangles:
        kept[b:d, a:c] = True
    assert not kept[mask[1] : mask[3], mask[0] : mask[2]].any()
    seen = read_frames(io.BytesIO(before))
    assert [(frame.number, frame.grey.shape) for frame in seen] == [(n, kept.shape) for n in (1, 2)]
    assert all(len(np.unique(frame.grey)) > 20 for frame in seen)


@pytest.mark.parametrize("syntax", DEEP, ids=lambda syntax: syntax.name)
def test_deep_samples_are_kept_bit_identical(deidentifier: Deidentifier, syntax: str) -> None:
    before, _ = simulated(syntax, bits=12)
    after, result = deidentifier.deidentify_bytes(before)
    check_kept(before, after, result.report.rectangles)


def with_hidden(part10: bytes) -> bytes:
    """Return the instance with overlays, a curve, an icon and private data around its pixels."""
    dataset = pydicom.dcmread(io.BytesIO(part10))
    for group in (0x6000, 0x601E):
        dataset.add_new((group, 0x0022), "LO", "CANARY-OVERLAY")
        dataset.add_new((group, 0x3000), "OW", b"CANARY-BITS!")
    dataset.add_new(0x5000_3000, "OW", b"CANARY-CURVE")
    icon = pydicom.Dataset()
    icon.add_new(0x7FE0_0010, "OB", b"CANARY-ICON!")
    dataset.add_new(0x0088_0200, "SQ", [icon])
    dataset.add_new(0xFFFC_FFFC, "OB", b"CANARY-TRAILING!")
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue() if dataset.file_meta.TransferSyntaxUID.is_deflated else target.getvalue() + b"CANARY-AFTER"


@pytest.mark.parametrize("clean", [False, True], ids=["validate", "clean"])
@pytest.mark.parametrize("syntax", COLOURS, ids=lambda syntax: syntax.name)
def test_nothing_passes_beside_the_pixels(deidentifier: Deidentifier, syntax: str, clean: bool) -> None:
    before, _ = simulated(syntax)
    after, result = deidentifier.deidentify_bytes(with_hidden(before), source_clean=clean)
    assert b"CANARY" not in after
    assert {element.tag.group for element in pydicom.dcmread(io.BytesIO(after))}.isdisjoint(
        {0x5000, 0x6000, 0x601E, 0x88}
    )
    if not clean:
        check_kept(before, after, result.report.rectangles)


def segment(marker: bytes, text: bytes) -> bytes:
    return marker + struct.pack(">H", len(text) + 2) + text


def commented(frame: bytes, syntax: str) -> bytes:
    """Put comments into a codestream, where its syntax has a place for them."""
    if syntax in JPEG_FAMILY:
        hidden = segment(b"\xff\xfe", b"CANARY-COMMENT") + segment(b"\xff\xe5", b"CANARY-APPLICATION")
        return frame[:2] + hidden + frame[2:]
    end = 4 + int.from_bytes(frame[4:6], "big")
    return frame[:end] + segment(b"\xff\x64", b"\0\1CANARY-COMMENT") + frame[end:]


def encapsulated_with(part10: bytes, frames: list[bytes], extra: bytes = b"") -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(part10))
    dataset.PixelData = encapsulate(frames, has_bot=bool(extra)) + extra
    dataset["PixelData"].is_undefined_length = True
    target = io.BytesIO()
    dataset.save_as(target)
    return target.getvalue()


def stored_frames(part10: bytes) -> list[bytes]:
    return list(generate_frames(pydicom.dcmread(io.BytesIO(part10)).PixelData, number_of_frames=2))


COMMENTED = [syntax for syntax in ENCAPSULATED if syntax != uid.RLELossless]


@pytest.mark.parametrize("clean", [False, True], ids=["validate", "clean"])
@pytest.mark.parametrize("syntax", COMMENTED, ids=lambda syntax: syntax.name)
def test_no_comment_within_a_codestream_passes(deidentifier: Deidentifier, syntax: str, clean: bool) -> None:
    before, _ = simulated(syntax)
    hidden = encapsulated_with(before, [commented(frame, syntax) for frame in stored_frames(before)])
    assert hidden.count(b"CANARY-COMMENT") == 2
    after, result = deidentifier.deidentify_bytes(hidden, source_clean=clean)
    assert b"CANARY" not in after
    (x0, y0, x1, y1), *_ = result.report.rectangles
    for original, kept in zip(frames_of(before), frames_of(after), strict=True):
        assert np.array_equal(original.pixels[y0:y1, x0:x1], kept.pixels[y0:y1, x0:x1])


def leaks(deidentifier: Deidentifier, part10: bytes, *, clean: bool) -> bool:
    """Return whether what was hidden gets out: an instance is to be refused, or to pass without it."""
    try:
        after, _ = deidentifier.deidentify_bytes(part10, source_clean=clean)
    except PermanentError as error:
        return error.reason not in ("frames-inconsistent", "undecodable") or "CANARY" in str(error)
    return b"CANARY" in after


@pytest.mark.parametrize("clean", [False, True], ids=["validate", "clean"])
@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda syntax: syntax.name)
def test_nothing_after_the_end_of_a_codestream_passes(deidentifier: Deidentifier, syntax: str, clean: bool) -> None:
    before, _ = simulated(syntax)
    frames = [frame + b"CANARY-AFTER-END" + b"!" * (len(frame) % 2) for frame in stored_frames(before)]
    assert not leaks(deidentifier, encapsulated_with(before, frames), clean=clean)


@pytest.mark.parametrize("clean", [False, True], ids=["validate", "clean"])
@pytest.mark.parametrize("table", [False, True], ids=["no-table", "table"])
@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda syntax: syntax.name)
def test_no_fragment_beyond_the_frames_passes(
    deidentifier: Deidentifier, syntax: str, table: bool, clean: bool
) -> None:
    before, _ = simulated(syntax)
    frames, fragment = stored_frames(before), b"CANARY-FRAGMENT!"
    if not table:
        frames.append(fragment)
    extra = struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment if table else b""
    part10 = encapsulated_with(before, frames, extra)
    assert fragment in part10
    assert not leaks(deidentifier, part10, clean=clean)
