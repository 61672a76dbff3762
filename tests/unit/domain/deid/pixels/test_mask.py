"""What lies in a proven region decodes bit-identical; all else is black, whatever the encoding."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.codecs import decode
from fetalmlops.domain.imaging.decoding import DecodedFrame, iter_frames
from fetalmlops.domain.imaging.encoding import encode_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.layout import Photometric, PixelLayout

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.deid import Deidentifier

INSIDE = (slice(10, 50), slice(8, 72))
JPEG, JPEG_LS, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"


def frames_of(part10: bytes) -> list[np.ndarray[Any, Any]]:
    return [np.array(frame.pixels) for frame in iter_frames(open_image(io.BytesIO(part10)).source)]


def check_masked(before: bytes, after: bytes, black: tuple[int, ...]) -> None:
    """Assert that the region is bit-identical and everything outside is black."""
    originals, results = frames_of(before), frames_of(after)
    assert len(originals) == len(results)
    outside = np.ones(results[0].shape[:2], bool)
    outside[INSIDE] = False
    for original, result in zip(originals, results, strict=True):
        assert np.array_equal(original[INSIDE], result[INSIDE])
        assert (result[outside].reshape(-1, len(black)) == black).all()
        assert (original[outside].reshape(-1, len(black)) != black).any()


@pytest.mark.parametrize("syntax", ["EXPLICIT", "IMPLICIT", "BIG", "DEFLATED"])
@pytest.mark.parametrize(
    ("photometric", "samples", "planar", "black"),
    [
        ("MONOCHROME2", 1, 0, (0,)),
        ("MONOCHROME1", 1, 0, (255,)),
        ("RGB", 3, 0, (0, 0, 0)),
        ("RGB", 3, 1, (0, 0, 0)),
        ("YBR_FULL", 3, 0, (0, 128, 128)),
        ("YBR_FULL", 3, 1, (0, 128, 128)),
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_native_pixels(
    files: ModuleType,
    deidentifier: Deidentifier,
    syntax: str,
    photometric: str,
    samples: int,
    planar: int,
    black: Any,
    frames: int,
) -> None:
    sample = files.make_sample(getattr(files, syntax), photometric=photometric, samples=samples, frames=frames)
    if planar:
        sample.set(planar=1)
    before = sample.part10()
    after, result = deidentifier.deidentify_bytes(before)
    assert result.transfer_syntax_uid == files.EXPLICIT
    if syntax != "DEFLATED":
        check_masked(before, after, black)
    assert pydicom.dcmread(io.BytesIO(after)).pixel_array.size == 60 * 80 * samples * frames


@pytest.mark.parametrize("region", [(8, 10, 71, 49), (9, 10, 70, 49)], ids=["even", "odd"])
def test_native_pairs_that_share_chrominance(files: ModuleType, deidentifier: Deidentifier, region: Any) -> None:
    sample = files.make_sample(photometric="YBR_FULL_422", samples=3)
    sample.pixels = files.speckle(60, 40, 4).tobytes()
    sample.attributes[0x0018_6011] = ("SQ", [files.region(*region)])
    before = sample.part10()
    after, result = deidentifier.deidentify_bytes(before)
    (x0, y0, x1, y1), *_ = result.report.rectangles
    assert (x0 % 2, x1 % 2) == (0, 0)
    assert x0 >= region[0]
    assert x1 <= region[2] + 1
    original, clean = frames_of(before)[0], frames_of(after)[0]
    assert np.array_equal(original[y0:y1, x0:x1], clean[y0:y1, x0:x1])
    clean[y0:y1, x0:x1] = (0, 128, 128)
    assert (clean == (0, 128, 128)).all()


@pytest.mark.parametrize("syntax", ["EXPLICIT", "BIG"])
def test_bits_above_the_stored_ones_are_cleared(files: ModuleType, deidentifier: Deidentifier, syntax: str) -> None:
    sample = files.make_sample(getattr(files, syntax)).set(allocated=16, stored=12, high=11)
    pixels = files.speckle(60, 80, dtype=np.uint16) | 0xA000
    sample.pixels = pixels.astype("<u2" if syntax == "EXPLICIT" else ">u2").tobytes()
    output, _ = deidentifier.deidentify_bytes(sample.part10())
    clean = np.frombuffer(output[-pixels.nbytes :], "<u2").reshape(60, 80)
    assert np.array_equal(clean[INSIDE], pixels[INSIDE] & 0x0FFF)
    assert not (clean & 0xF000).any()


def test_a_source_declared_clean_keeps_all_pixels_and_no_hidden_bits(
    files: ModuleType, deidentifier: Deidentifier
) -> None:
    sample = files.make_sample().set(allocated=16, stored=12, high=11)
    del sample.attributes[0x0018_6011]
    pixels = files.speckle(60, 80, dtype=np.uint16)
    sample.pixels = (pixels | 0x5000).astype("<u2").tobytes()
    output, result = deidentifier.deidentify_bytes(sample.part10(), source_clean=True)
    assert np.array_equal(np.frombuffer(output[-pixels.nbytes :], "<u2").reshape(60, 80), pixels)
    assert result.report.pixel_action == "source_clean"
    assert result.report.rectangles == [(0, 0, 80, 60)]
    clean = pydicom.dcmread(io.BytesIO(output))
    assert "BurnedInAnnotation" not in clean
    assert [item.CodeValue for item in clean.DeidentificationMethodCodeSequence] == ["113100"]


def test_odd_sizes(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample(rows=61, columns=83)
    sample.pixels += b"!"
    output, _ = deidentifier.deidentify_bytes(sample.part10())
    assert len(output) % 2 == 0
    assert output[-1] == 0
    check_masked(sample.part10(), output, (0,))


@pytest.mark.parametrize(("bits", "size"), [(8, 256), (16, 512)])
def test_palettes_are_cut_to_their_length_and_black_is_their_darkest(
    files: ModuleType, deidentifier: Deidentifier, bits: int, size: int
) -> None:
    sample = files.make_sample(photometric="PALETTE COLOR")
    ramp = np.roll(np.arange(256), 5)  # the darkest colour is not the first
    table = (ramp * (257 if bits == 16 else 1)).astype("<u2" if bits == 16 else np.uint8).tobytes()
    for colour in range(3):
        sample.attributes[0x0028_1101 + colour] = ("US", files.u16(256, 0, bits))
        sample.attributes[0x0028_1201 + colour] = ("OW", table)
    before = sample.part10()
    for colour in range(3):
        sample.attributes[0x0028_1201 + colour] = ("OW", table + b"CANARY")
    after, _ = deidentifier.deidentify_bytes(sample.part10())
    assert b"CANARY" not in after
    assert len(pydicom.dcmread(io.BytesIO(after)).RedPaletteColorLookupTableData) == size
    check_masked(before, after, (5,))


def encapsulated(files: ModuleType, syntax: str, frames: list[bytes], **options: Any) -> Any:
    sample = files.make_sample(syntax, frames=len(frames), **options)
    # The item delimiter of the sequence of fragments follows what pydicom encapsulates.
    sample.pixels = encapsulate(frames, has_bot=False) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return sample


def encoded(pixels: np.ndarray[Any, Any], photometric: Photometric, bits: int = 8) -> list[bytes]:
    return list(encode_frames(DecodedFrame(number, frame, photometric, bits) for number, frame in enumerate(pixels, 1)))


@pytest.mark.parametrize("frames", [1, 4])
def test_compressed_grey(files: ModuleType, deidentifier: Deidentifier, frames: int) -> None:
    pixels = files.speckle(frames, 60, 80)
    sample = encapsulated(files, JPEG_LS, encoded(pixels, Photometric.MONOCHROME2))
    before = sample.part10()
    after, result = deidentifier.deidentify_bytes(before)
    assert result.transfer_syntax_uid == JPEG_LS
    check_masked(before, after, (0,))


def test_compressed_deep_grey_with_hidden_bits(files: ModuleType, deidentifier: Deidentifier) -> None:
    pixels = files.speckle(2, 60, 80, dtype=np.uint16) | 0xA000
    sample = encapsulated(files, JPEG_LS, encoded(pixels, Photometric.MONOCHROME2, 16)).set(
        allocated=16, stored=12, high=11
    )
    after, _ = deidentifier.deidentify_bytes(sample.part10())
    clean = frames_of(after)
    assert all(np.array_equal(frame[INSIDE], full[INSIDE] & 0x0FFF) for frame, full in zip(clean, pixels, strict=True))
    assert not any((frame & 0xF000).any() for frame in clean)
    assert pydicom.dcmread(io.BytesIO(after)).BitsStored == 12


def jpeg_frames(files: ModuleType, count: int) -> list[bytes]:
    import cv2

    smooth = cv2.GaussianBlur(files.speckle(count, 60, 80, 3).reshape(-1, 80, 3), (5, 5), 0).reshape(count, 60, 80, 3)
    return [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for frame in smooth]


def hide(frame: bytes) -> bytes:
    """Put a comment, application data and trailing bytes into a JPEG frame."""
    comment = b"\xff\xfe" + struct.pack(">H", 16) + b"CANARY-COMMENT"
    exif = b"\xff\xe1" + struct.pack(">H", 19) + b"Exif\0CANARY-EXIF!"
    return frame[:2] + exif + comment + frame[2:] + b"CANARY-AFTER-END"


def test_jpeg_is_masked_and_coded_again_without_loss(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = encapsulated(
        files, JPEG, [hide(frame) for frame in jpeg_frames(files, 3)], photometric="YBR_FULL_422", samples=3
    )
    before = sample.part10()
    after, result = deidentifier.deidentify_bytes(before)
    assert b"CANARY" not in after
    assert result.transfer_syntax_uid == JPEG_LS
    check_masked(before, after, (0, 128, 128))
    clean = pydicom.dcmread(io.BytesIO(after))
    assert (clean.LossyImageCompression, clean.ImageType[0], clean.PhotometricInterpretation) == (
        "01",
        "DERIVED",
        "YBR_FULL",
    )


def test_jpeg_of_a_clean_source_passes_as_stored_but_for_what_hides_in_it(
    files: ModuleType, deidentifier: Deidentifier
) -> None:
    sample = encapsulated(
        files, JPEG, [hide(frame) for frame in jpeg_frames(files, 3)], photometric="YBR_FULL_422", samples=3
    )
    before = sample.part10()
    after, result = deidentifier.deidentify_bytes(before, source_clean=True)
    assert b"CANARY" not in after
    assert result.transfer_syntax_uid == JPEG
    assert all(np.array_equal(*pair) for pair in zip(frames_of(before), frames_of(after), strict=True))


@pytest.mark.parametrize("clean", [False, True])
def test_fragments_beyond_the_frames_do_not_pass(files: ModuleType, deidentifier: Deidentifier, clean: bool) -> None:
    sample = encapsulated(files, JPEG, jpeg_frames(files, 2), photometric="YBR_FULL_422", samples=3)
    extra = struct.pack("<HHI", 0xFFFE, 0xE000, 16) + b"CANARY-FRAGMENT!"
    sample.pixels = sample.pixels[:-8] + extra + sample.pixels[-8:]
    try:
        output, _ = deidentifier.deidentify_bytes(sample.part10(), source_clean=clean)
    except PermanentError:
        return
    assert b"CANARY" not in output


def test_rle_with_wide_cells_becomes_narrow(files: ModuleType, deidentifier: Deidentifier) -> None:
    from rle.rle import encode_frame

    pixels = files.speckle(60, 80, dtype=np.uint16)
    sample = encapsulated(files, RLE, [bytes(encode_frame(pixels.tobytes(), 60, 80, 1, 16, "<"))]).set(allocated=16)
    output, _ = deidentifier.deidentify_bytes(sample.part10())
    assert np.array_equal(frames_of(output)[0][INSIDE], pixels[INSIDE])
    assert pydicom.dcmread(io.BytesIO(output)).BitsAllocated == 8


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("frames-inconsistent", lambda sample: setattr(sample, "pixels", sample.pixels[:-100])),
        ("no-pixel-data", lambda sample: setattr(sample, "pixels", b"")),
        ("unsupported-pixel-format", lambda sample: sample.set(signed=1)),
        ("unsupported-pixel-format", lambda sample: sample.set(samples=3)),
        ("unsupported-pixel-format", lambda sample: sample.set(high=11, allocated=16)),
        ("unsupported-pixel-format", lambda sample: sample.attributes.pop(0x0028_0010)),
        ("unsupported-pixel-format", lambda sample: sample.attributes.update({0x0028_0004: ("CS", b"PALETTE COLOR")})),
        ("too-large", lambda sample: sample.set(rows=65000, columns=65000)),
    ],
)
def test_pixels_that_do_not_fit_their_header_are_refused(
    files: ModuleType, deidentifier: Deidentifier, reason: str, change: Any
) -> None:
    sample = files.make_sample()
    change(sample)
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(sample.part10())
    assert error.value.reason == reason


def test_memory_does_not_grow_with_the_frames(files: ModuleType, deidentifier: Deidentifier) -> None:
    import tracemalloc

    frame = encoded(files.speckle(1, 60, 80), Photometric.MONOCHROME2)[0]
    peaks = []
    for count in (50, 1000):
        part10 = encapsulated(files, JPEG_LS, [frame] * count).part10()
        tracemalloc.start()
        deidentifier.deidentify(io.BytesIO(part10), NullFile())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The places of the fragments are remembered: a few hundred bytes a frame, where a frame has thousands.
    assert peaks[1] - peaks[0] < 950 * 1000
    assert decode(frame, JPEG_LS, PixelLayout(rows=60, columns=80)).pixels.shape == (60, 80)


class NullFile(io.RawIOBase):
    """Takes bytes and forgets them."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)
