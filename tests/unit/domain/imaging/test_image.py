"""Whole files: real ones against pydicom's own decoding, and broken ones against their reasons."""

from __future__ import annotations

import importlib.util
import io
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pixel_array

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.decoding import black, iter_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.layout import MAX_FRAMES, Photometric

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def real_files() -> list[Path]:
    """Every ultrasound file, and every file whose way of coding no ultrasound file has, of the installed packages."""
    names = (
        "JPGLosslessP14SV1* OBXXXX1A*.dcm US1_* color-p?.dcm color3d* gdcm-US-* GREYSCALE_IMAGE.dcm RGB_IMAGE.dcm "
        "ultrasound-multiframe.dcm ExplVR_BigEnd.dcm examples_*.dcm SC_rgb_jpeg_* SC_rgb_dcmtk_* SC_rgb_jls_* "
        "SC_ybr_full_* SC_rgb_small_odd* SC_rgb_rle_16bit* SC_rgb_expb_16bit* SC_jpeg_no_* JPEGLSNearLossless_* emri_small*"
    )
    found: set[Path] = set()
    for package in ("pydicom", "data_store", "deid_data"):
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            found |= {path for name in names.split() for path in Path(spec.origin).parent.rglob(name)}
    return sorted(path for path in found if path.suffix == ".dcm" and "too_short" not in path.name)


FILES = real_files()


def test_the_packages_with_real_files_are_there() -> None:
    assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_real_file_decodes_to_what_pydicom_decodes(path: Path) -> None:
    with path.open("rb") as file:
        image = open_image(file)
        numbers = sorted({1, (image.total_frames + 1) // 2, image.total_frames})
        frames = list(iter_frames(image.source, numbers))
        greys = [image.grey(number) for number in numbers]
    for frame, grey in zip(frames, greys, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = pixel_array(path, index=frame.number - 1, raw=True)
        assert np.array_equal(frame.pixels, expected)
        assert grey.shape == expected.shape[:2]
        assert grey.dtype == np.uint8
        if frame.photometric is Photometric.YBR_FULL:
            assert np.array_equal(grey, expected[..., 0])


def test_jpeg_extended_of_12_bits_that_pydicom_cannot_decode() -> None:
    """Against the same picture coded without loss."""
    files = {path.name: path for name in ("JPGExtended.dcm", "JPEG-LL.dcm") for path in roots(name)}
    if len(files) < 2:
        pytest.skip("pydicom-data is not installed")
    with files["JPGExtended.dcm"].open("rb") as file:
        (frame,) = iter_frames(open_image(file).source)
    exact = pixel_array(files["JPEG-LL.dcm"])
    assert np.corrcoef(frame.pixels.ravel(), exact.ravel())[0, 1] > 0.98
    assert abs(float(frame.pixels.mean()) - float(exact.mean())) < 1


def roots(name: str) -> list[Path]:
    specs = [importlib.util.find_spec(package) for package in ("pydicom", "data_store")]
    return [path for spec in specs if spec and spec.origin for path in Path(spec.origin).parent.rglob(name)]


def test_palette_files_look_the_same_in_either_byte_order() -> None:
    for first, second in (("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"), ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm")):
        paths = roots(first) + roots(second)
        if len(paths) < 2:
            pytest.skip("pydicom-data is not installed")
        little, big = (open_image(io.BytesIO(path.read_bytes())).grey(1) for path in paths[:2])
        assert np.array_equal(little, big)
        assert little.max() > 200


def test_a_palette_is_looked_up(make_part10: Callable[..., bytes]) -> None:
    values = np.array([[0, 1], [2, 200]], np.uint8)
    ramps = [np.zeros(256, np.uint16) for _ in range(3)]
    for ramp, levels in zip(ramps, ((9, 255, 0, 40), (9, 255, 0, 80), (9, 255, 0, 120)), strict=True):
        ramp[:3], ramp[3:] = np.array(levels[:3]) * 257, levels[3] * 257
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, ramp in zip(("Red", "Green", "Blue"), ramps, strict=True):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{colour}PaletteColorLookupTableData"] = ramp.tobytes()
    image = open_image(io.BytesIO(make_part10(values.tobytes(), (2, 2), **attributes)))
    assert image.grey(1).tolist() == [[9, 255], [0, round(0.299 * 40 + 0.587 * 80 + 0.114 * 120)]]
    assert image.palette
    assert black(Photometric.PALETTE_COLOR, 8, image.palette) == (2,)


def test_monochrome1_is_inverted(make_part10: Callable[..., bytes]) -> None:
    data = make_part10(bytes([0, 55, 200, 255]), (2, 2), PhotometricInterpretation="MONOCHROME1")
    assert open_image(io.BytesIO(data)).grey(1).tolist() == [[255, 200], [55, 0]]


def test_deep_samples_are_scaled_to_8_bits(make_part10: Callable[..., bytes]) -> None:
    values = np.array([[0, 4095], [2048, 16]], "<u2")
    data = make_part10(values.tobytes(), (2, 2), bits=12)
    assert open_image(io.BytesIO(data)).grey(1).tolist() == [[0, 255], [128, 1]]


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_every_native_transfer_syntax(syntax: str, make_speckle: Callable[..., NDArray[np.uint8]]) -> None:
    frames = np.stack([make_speckle(15, 21, seed=seed) for seed in range(3)])  # of an odd size
    little = syntax != uid.ExplicitVRBigEndian
    value = frames.tobytes() + b"\0"
    if not little:
        value = np.frombuffer(value, "<u2").byteswap().tobytes()
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.UltrasoundMultiFrameImageStorage, "1.2.3"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 3, 15, 21
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = value
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    image = open_image(file)
    assert np.array_equal(np.stack([image.grey(number) for number in (1, 2, 3)]), frames)


def test_only_wanted_frames_are_read(make_part10: Callable[..., bytes]) -> None:
    frames = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4)
    file = _Counting(make_part10(frames.tobytes(), (4, 4), frames=10))
    image = open_image(file)
    file.count = 0
    found = list(iter_frames(image.source, [9, 2]))
    assert [frame.number for frame in found] == [9, 2]
    assert np.array_equal(np.stack([frame.pixels for frame in found]), frames[[8, 1]])
    assert file.count == 32
    assert [frame.number for frame in iter_frames(image.source)] == list(range(1, 11))
    with pytest.raises(IndexError):
        image.grey(0)
    with pytest.raises(IndexError):
        image.grey(11)


class _Counting(io.BytesIO):
    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


GREY = bytes(64)


def read_all(data: bytes) -> None:
    image = open_image(io.BytesIO(data))
    for number in range(1, image.total_frames + 1):
        image.grey(number)


def reason(data: bytes) -> str:
    with pytest.raises(PermanentError) as caught:
        read_all(data)
    assert type(caught.value) is PermanentError
    assert "CANARY" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"Rows": 0}, "frames-inconsistent"),
        ({"Columns": 0}, "frames-inconsistent"),
        ({"Rows": 9}, "frames-inconsistent"),
        ({"NumberOfFrames": 2}, "frames-inconsistent"),
        ({"NumberOfFrames": 0}, "frames-inconsistent"),
        ({"NumberOfFrames": -1}, "frames-inconsistent"),
        ({"NumberOfFrames": MAX_FRAMES + 1}, "too-large"),
        ({"Rows": 65535, "Columns": 65535}, "too-large"),
        ({"SamplesPerPixel": 3}, "frames-inconsistent"),
        ({"SamplesPerPixel": 4, "PhotometricInterpretation": "CMYK"}, "unsupported-pixel-format"),
        ({"PhotometricInterpretation": "CANARY"}, "unsupported-pixel-format"),
        ({"PhotometricInterpretation": None}, "unsupported-pixel-format"),
        ({"PhotometricInterpretation": "YBR_RCT", "SamplesPerPixel": 3}, "unsupported-pixel-format"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "undecodable"),
        ({"PixelRepresentation": 1}, "unsupported-pixel-format"),
        ({"BitsAllocated": 32}, "unsupported-pixel-format"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "unsupported-pixel-format"),
        ({"BitsStored": 9, "HighBit": 8}, "unsupported-pixel-format"),
        ({"HighBit": 6}, "unsupported-pixel-format"),
        ({"Rows": None}, "undecodable"),
        ({"BitsStored": None}, "undecodable"),
    ],
)
def test_a_dataset_that_contradicts_its_pixels_is_refused(
    attributes: dict[str, Any], expected: str, make_part10: Callable[..., bytes]
) -> None:
    assert reason(make_part10(GREY, (8, 8), **attributes)) == expected


def test_a_file_that_is_none_is_refused() -> None:
    assert reason(b"") == "undecodable"
    assert reason(bytes(200)) == "undecodable"
    assert reason(bytes(128) + b"DICM") == "unsupported-transfer-syntax"
    assert reason(bytes(128) + b"DICM" + b"CANARY^PATIENT-0001" * 50) in ("undecodable", "unsupported-transfer-syntax")


def test_other_transfer_syntaxes_are_refused_unread(make_part10: Callable[..., bytes]) -> None:
    data = make_part10(GREY, (8, 8))
    deflated = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20])
    assert reason(make_part10([GREY], (8, 8), syntax=uid.MPEG2MPML)) == "unsupported-transfer-syntax"
    assert reason(deflated) == "unsupported-transfer-syntax"


def test_a_dataset_without_pixels_is_refused(make_part10: Callable[..., bytes]) -> None:
    data = make_part10(GREY, (8, 8))
    assert reason(data[: data.rindex(b"\xe0\x7f\x10\x00")]) == "no-pixel-data"
    floating = data.replace(b"\xe0\x7f\x10\x00OB", b"\xe0\x7f\x08\x00OF")
    assert reason(floating) == "no-pixel-data"


def test_native_pixel_data_of_undefined_length_is_refused(make_part10: Callable[..., bytes]) -> None:
    data = make_part10(GREY, (8, 8)).replace(struct.pack("<I", 64) + GREY, b"\xff\xff\xff\xff" + GREY)
    assert reason(data) == "undecodable"


def test_a_length_beyond_the_file_reserves_no_memory(make_part10: Callable[..., bytes], tmp_path: Path) -> None:
    data = make_part10(GREY, (8, 8), SequenceOfUltrasoundRegions=[Dataset()])
    lies = data.replace(b"\x18\x00\x11\x60SQ\0\0", b"\x18\x00\x11\x60OB\0\0")
    start = lies.index(b"\x18\x00\x11\x60OB\0\0") + 8
    path = tmp_path / "lies.dcm"
    path.write_bytes(lies[:start] + b"\xf0\xff\xff\xff" + lies[start + 4 :])
    with path.open("rb", buffering=0) as file, pytest.raises(PermanentError):
        open_image(_Modest(file))  # type: ignore[arg-type]


class _Modest:
    """A file that fails where it is asked for more than a megabyte."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        assert size < 1 << 20
        data: bytes = self._file.read(size)
        return data


def test_failures_of_the_file_itself_are_not_the_data_s_fault(make_part10: Callable[..., bytes]) -> None:
    class _Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "input/output error")

    with pytest.raises(OSError, match="input/output"):
        open_image(_Failing(make_part10(GREY, (8, 8))))


def test_sequences_nested_a_thousand_deep_are_refused_or_ignored(make_part10: Callable[..., bytes]) -> None:
    data = make_part10(GREY, (8, 8))
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    place = data.index(b"\x08\x00\x16\x00UI")
    with pytest.raises(PermanentError):
        open_image(io.BytesIO(data[:place] + item * 2000 + data[place:]))


def test_every_attribute_of_black() -> None:
    assert black(Photometric.MONOCHROME2, 8) == (0,)
    assert black(Photometric.MONOCHROME1, 12) == (4095,)
    assert black(Photometric.RGB, 8) == (0, 0, 0)
    assert black(Photometric.YBR_FULL, 12) == (0, 2048, 2048)


def test_pydicom_is_silent(make_part10: Callable[..., bytes], recwarn: pytest.WarningsRecorder) -> None:
    data = make_part10(GREY, (8, 8), PatientBirthDate="19990101").replace(b"19990101", b"CANARY^P")
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert str(dataset.PatientBirthDate)
    assert not recwarn.list
