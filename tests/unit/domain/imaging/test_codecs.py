"""Every way of coding a frame, against what was coded."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import simplejpeg
from jpeg_ls import encode_buffer
from openjpeg.utils import encode_array as encode_jpeg_2000
from pydicom import uid
from rle.rle import encode_frame as encode_rle

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.codecs import decode, decode_luminance
from fetalmlops.domain.imaging.grey import to_grey
from fetalmlops.domain.imaging.layout import Photometric, PixelLayout

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS, COLUMNS = 120, 160
YBR = Photometric.YBR_FULL
RGB = Photometric.RGB


@pytest.fixture
def grey(make_speckle: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return make_speckle(ROWS, COLUMNS)


@pytest.fixture
def deep(grey: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return (grey.astype(np.uint16) << 4) | (grey & 15)


@pytest.fixture
def colour(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    tint = np.linspace(0, 120, COLUMNS, dtype=np.uint8)[np.newaxis]
    return np.ascontiguousarray(np.dstack([grey, grey // 2 + tint, 255 - grey // 3]))


def layout(pixels: NDArray[Any], bits: int = 8, **changes: Any) -> PixelLayout:
    default = Photometric.MONOCHROME2 if pixels.ndim == 2 else RGB
    values: dict[str, Any] = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "photometric": default,
        "bits_allocated": 8 if bits <= 8 else 16,
        "bits_stored": bits,
    }
    return PixelLayout(**{**values, **changes})


def planes(pixels: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels).tobytes()


def lossless_jpeg(pixels: NDArray[Any], bits: int, selection: int = 1, ids: bytes = b"\1\2\3") -> bytes:
    """The frame by JPEG process 14 (ISO/IEC 10918-1 annex H): a predictor, and 17 Huffman codes of 5 bits each."""
    samples = np.atleast_3d(pixels).astype(int)
    rows, columns, count = samples.shape
    ids = ids[:count]
    above, left = np.roll(samples, 1, axis=0), np.roll(samples, 1, axis=1)
    corner = np.roll(above, 1, axis=1)
    predicted = [
        left,
        above,
        corner,
        left + above - corner,
        left + ((above - corner) >> 1),
        above + ((left - corner) >> 1),
        (left + above) >> 1,
    ][selection - 1]
    predicted[0], predicted[:, 0] = left[0], above[:, 0]
    predicted[0, 0] = 1 << (bits - 1)
    differences = (samples - predicted + (1 << 15)) % (1 << 16) - (1 << 15)
    stream = "".join(_huffman(int(value)) for value in differences.ravel())
    stream += "1" * (-len(stream) % 8)
    coded = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB", bits, rows, columns, count) + b"".join(bytes((name, 0x11, 0)) for name in ids)
    table = bytes((0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)))
    scan = bytes((count, *(value for name in ids for value in (name, 0)), selection, 0, 0))
    segments = [(0xC3, frame), (0xC4, table), (0xDA, scan)]
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return b"\xff\xd8" + head + coded + b"\xff\xd9"


def _huffman(difference: int) -> str:
    category = abs(difference).bit_length()
    code = f"{category:05b}"
    if category in (0, 16):
        return code
    return code + f"{difference if difference > 0 else difference + (1 << category) - 1:0{category}b}"


def without_segments(jpeg: bytes, *markers: int) -> bytes:
    """The frame without its segments of these markers, as scanners write it."""
    kept, offset = [jpeg[:2]], 2
    while jpeg[offset + 1] != 0xDA:
        end = offset + 2 + struct.unpack_from(">H", jpeg, offset + 2)[0]
        if jpeg[offset + 1] not in markers:
            kept.append(jpeg[offset:end])
        offset = end
    return b"".join([*kept, jpeg[offset:]])


def test_native_grey(grey: NDArray[np.uint8]) -> None:
    frame = decode(grey.tobytes(), uid.ExplicitVRLittleEndian, layout(grey))
    assert np.array_equal(frame.pixels, grey)
    assert frame.bits == 8


def test_native_bits_above_those_stored_are_dropped(deep: NDArray[np.uint16]) -> None:
    hidden = deep | 0xA000
    frame = decode(hidden.tobytes(), uid.ExplicitVRLittleEndian, layout(deep, 12))
    assert np.array_equal(frame.pixels, deep)
    assert frame.bits == 12


@pytest.mark.parametrize("planar", [False, True])
def test_native_colour(colour: NDArray[np.uint8], *, planar: bool) -> None:
    data = planes(colour) if planar else colour.tobytes()
    frame = decode(data, uid.ImplicitVRLittleEndian, layout(colour, planar=planar))
    assert np.array_equal(frame.pixels, colour)
    assert frame.photometric is RGB


def test_native_subsampled_chrominance(colour: NDArray[np.uint8]) -> None:
    luminance, chrominance = colour[..., 0], colour[:, ::2, 1:]
    pairs = np.concatenate([luminance.reshape(ROWS, -1, 2), chrominance], axis=2)
    frame = decode(pairs.tobytes(), uid.ExplicitVRLittleEndian, layout(colour, photometric=Photometric.YBR_FULL_422))
    assert frame.photometric is YBR
    assert np.array_equal(frame.pixels[..., 0], luminance)
    assert np.array_equal(frame.pixels[:, ::2, 1:], chrominance)
    assert np.array_equal(frame.pixels[:, 1::2, 1:], chrominance)


@pytest.mark.parametrize("kind", ["grey", "deep", "colour"])
def test_rle(kind: str, request: pytest.FixtureRequest) -> None:
    pixels = request.getfixturevalue(kind)
    bits = 12 if kind == "deep" else 8
    data = encode_rle(pixels.tobytes(), ROWS, COLUMNS, pixels.ndim * 2 - 3, pixels.dtype.itemsize * 8, "<")
    frame = decode(bytes(data), uid.RLELossless, layout(pixels, bits))
    assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize("error", [0, 3])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("kind", ["grey", "deep", "colour"])
def test_jpeg_ls(kind: str, mode: int, error: int, request: pytest.FixtureRequest) -> None:
    pixels = request.getfixturevalue(kind)
    bits, samples = (12 if kind == "deep" else 8), pixels.ndim * 2 - 3
    source = planes(pixels) if mode == 0 else pixels.tobytes()
    data = bytes(encode_buffer(source, ROWS, COLUMNS, samples, bits, error, mode))
    frame = decode(data, uid.JPEGLSNearLossless, layout(pixels, bits))
    assert np.abs(frame.pixels.astype(int) - pixels).max() <= error
    assert frame.pixels.dtype == pixels.dtype


@pytest.mark.parametrize("kind", ["grey", "deep", "colour"])
def test_jpeg_2000(kind: str, request: pytest.FixtureRequest) -> None:
    pixels = request.getfixturevalue(kind)
    bits = 12 if kind == "deep" else 8
    data = bytes(encode_jpeg_2000(pixels, bits_stored=bits, photometric_interpretation=4 - pixels.ndim))
    stated = Photometric.YBR_RCT if kind == "colour" else Photometric.MONOCHROME2
    frame = decode(data, uid.JPEG2000Lossless, layout(pixels, bits, photometric=stated))
    assert np.array_equal(frame.pixels, pixels)
    assert frame.photometric is (RGB if kind == "colour" else Photometric.MONOCHROME2)


def test_jpeg_2000_lossy_and_within_a_jp2_file(colour: NDArray[np.uint8]) -> None:
    data = encode_jpeg_2000(colour, photometric_interpretation=1, compression_ratios=[8], codec_format=1)
    frame = decode(bytes(data), uid.JPEG2000, layout(colour, photometric=Photometric.YBR_ICT))
    assert frame.photometric is RGB
    assert np.abs(frame.pixels.astype(int) - colour).mean() < 8


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("selection", range(1, 8))
def test_jpeg_lossless(selection: int, bits: int) -> None:
    kind = np.uint8 if bits == 8 else np.uint16
    pixels = np.random.default_rng(3).integers(0, 1 << bits, (24, 32)).astype(kind)
    frame = decode(lossless_jpeg(pixels, bits, selection), uid.JPEGLossless, layout(pixels, bits))
    assert np.array_equal(frame.pixels, pixels)
    assert (frame.bits, frame.pixels.dtype) == (bits, kind)


@pytest.mark.parametrize(
    ("ids", "stated", "expected"), [(b"\1\2\3", YBR, YBR), (b"\1\2\3", RGB, RGB), (b"RGB", YBR, RGB)]
)
def test_jpeg_lossless_colour_is_left_as_stored(
    ids: bytes, stated: Photometric, expected: Photometric, colour: NDArray[np.uint8]
) -> None:
    small = np.ascontiguousarray(colour[::4, ::4])
    data = lossless_jpeg(small, 8, ids=ids)
    frame = decode(data, uid.JPEGLosslessSV1, layout(small, photometric=stated))
    assert np.array_equal(frame.pixels, small)
    assert frame.photometric is expected
    assert decode_luminance(data, uid.JPEGLosslessSV1, layout(small, photometric=stated)) is None


def test_jpeg_lossless_colour_of_more_than_8_bits_is_refused(colour: NDArray[np.uint8]) -> None:
    small = colour[::8, ::8].astype(np.uint16)
    with pytest.raises(PermanentError) as caught:
        decode(lossless_jpeg(small, 12), uid.JPEGLossless, layout(small, 12))
    assert caught.value.reason == "unsupported-pixel-format"


def test_lossy_jpeg_of_16_bits_does_not_exist(deep: NDArray[np.uint16]) -> None:
    data = lossless_jpeg(deep[::8, ::8], 16).replace(b"\xff\xc3", b"\xff\xc1")
    with pytest.raises(PermanentError) as caught:
        decode(data, uid.JPEGExtended12Bit, layout(deep[::8, ::8], 16))
    assert caught.value.reason == "undecodable"


def test_jpeg_baseline_grey(grey: NDArray[np.uint8]) -> None:
    data = simplejpeg.encode_jpeg(grey[..., np.newaxis], 95, "GRAY", "Gray")
    frame = decode(data, uid.JPEGBaseline8Bit, layout(grey))
    assert np.abs(frame.pixels.astype(int) - grey).mean() < 3


@pytest.mark.parametrize("sampling", ["444", "422", "420"])
def test_jpeg_baseline_colour_is_luminance_and_chrominance(sampling: str, colour: NDArray[np.uint8]) -> None:
    data = simplejpeg.encode_jpeg(colour, 95, "RGB", sampling)
    stated = layout(colour, photometric=Photometric.YBR_FULL_422)
    frame = decode(data, uid.JPEGBaseline8Bit, stated)
    expected = cv2.cvtColor(colour, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    assert frame.photometric is YBR
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 4
    luminance = decode_luminance(data, uid.JPEGBaseline8Bit, stated)
    assert luminance is not None
    assert np.array_equal(luminance, frame.pixels[..., 0])


JFIF, ADOBE = 0xE0, 0xEE


@pytest.mark.parametrize(
    ("removed", "stated", "expected"),
    [
        ((), RGB, YBR),  # a JFIF segment says YCbCr, whatever the dataset says
        ((JFIF,), YBR, YBR),
        ((JFIF,), RGB, RGB),  # nothing in the codestream: the dataset decides
    ],
)
def test_who_decides_about_the_colour_of_jpeg(
    removed: tuple[int, ...], stated: Photometric, expected: Photometric, colour: NDArray[np.uint8]
) -> None:
    samples = cv2.cvtColor(colour, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] if expected is YBR else colour
    data = simplejpeg.encode_jpeg_yuv_planes(*(np.ascontiguousarray(samples[..., index]) for index in range(3)), 95)
    data = without_segments(data, *removed)
    frame = decode(data, uid.JPEGBaseline8Bit, layout(colour, photometric=stated))
    assert frame.photometric is expected
    assert np.abs(frame.pixels.astype(int) - samples).mean() < 4
    grey = decode_luminance(data, uid.JPEGBaseline8Bit, layout(colour, photometric=stated))
    assert grey is not None
    assert np.abs(grey.astype(int) - to_grey(frame)).max() <= 2


def test_harmless_bytes_before_the_end_marker_are_forgiven(grey: NDArray[np.uint8]) -> None:
    data = simplejpeg.encode_jpeg(grey[..., np.newaxis], 95, "GRAY", "Gray")
    loose = data[:-2] + b"\0\0\0" + data[-2:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(loose, "GRAY")
    expected = decode(data, uid.JPEGBaseline8Bit, layout(grey)).pixels
    assert np.array_equal(decode(loose, uid.JPEGBaseline8Bit, layout(grey)).pixels, expected)


def encoded(syntax: str, pixels: NDArray[Any]) -> bytes:
    if syntax == uid.RLELossless:
        return bytes(encode_rle(pixels.tobytes(), *pixels.shape, 1, 8, "<"))
    if syntax == uid.JPEGLSLossless:
        return bytes(encode_buffer(pixels.tobytes(), *pixels.shape, 1, 8))
    if syntax == uid.JPEG2000Lossless:
        return bytes(encode_jpeg_2000(pixels, photometric_interpretation=2, bits_stored=8))
    if syntax == uid.JPEGLosslessSV1:
        return lossless_jpeg(pixels, 8)
    jpeg: bytes = simplejpeg.encode_jpeg(pixels[..., np.newaxis], 95, "GRAY", "Gray")
    return jpeg


SYNTAXES = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLosslessSV1, uid.JPEGBaseline8Bit]
COMPRESSED = pytest.mark.parametrize("syntax", SYNTAXES, ids=[syntax.name.split(",")[0] for syntax in SYNTAXES])


@COMPRESSED
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.95])
def test_a_frame_that_breaks_off_is_refused(syntax: str, share: float, grey: NDArray[np.uint8]) -> None:
    data = encoded(syntax, grey)
    with pytest.raises(PermanentError) as caught:
        decode(data[: int(len(data) * share)], syntax, layout(grey))
    assert caught.value.reason == "undecodable"


@COMPRESSED
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(syntax: str, grey: NDArray[np.uint8]) -> None:
    data = encoded(syntax, grey)
    with pytest.raises(PermanentError) as caught:
        decode(data, syntax, layout(grey, rows=ROWS - 1))
    assert caught.value.reason in ("frames-inconsistent", "undecodable")


@COMPRESSED
def test_other_bytes_are_refused(syntax: str, grey: NDArray[np.uint8]) -> None:
    with pytest.raises(PermanentError) as caught:
        decode(bytes(range(256)) * 8, syntax, layout(grey))
    assert caught.value.reason == "undecodable"


def test_a_frame_deeper_than_the_dataset_states_is_refused(deep: NDArray[np.uint16]) -> None:
    data = bytes(encode_buffer(deep.tobytes(), ROWS, COLUMNS, 1, 12))
    with pytest.raises(PermanentError) as caught:
        decode(data, uid.JPEGLSLossless, layout(deep, 8))
    assert caught.value.reason == "frames-inconsistent"


def test_a_frame_that_claims_an_absurd_size_is_refused(grey: NDArray[np.uint8]) -> None:
    data = bytearray(encoded(uid.JPEGBaseline8Bit, grey))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(PermanentError) as caught:
        decode(bytes(data), uid.JPEGBaseline8Bit, layout(grey))
    assert caught.value.reason == "frames-inconsistent"
