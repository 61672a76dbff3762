"""The work of decoding children, in children."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import logging
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLossless, UltrasoundMultiFrameImageStorage

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.domain.imaging.frames import NormalizedObject, read_frames
from fetalmlops.domain.imaging.pipelines.normalize import Pipeline
from fetalmlops.platform.dicom.decoding import configure, normalize_part10
from fetalmlops.platform.sandbox.parent import ChildDiedError, Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MIB = 1 << 20


def sandbox(**options: int) -> Sandbox[NormalizedObject]:
    module = "fetalmlops.platform.dicom.decoding"
    return Sandbox(f"{module}:normalize_part10", NormalizedObject, initializer=f"{module}:configure", **options)


def in_children(work: Callable[[Sandbox[NormalizedObject]], Awaitable[None]], **options: int) -> None:
    async def main() -> None:
        async with sandbox(**options) as children:
            await work(children)

    asyncio.run(main())


def part10(
    pixel_data: bytes, rows: int, columns: int, frames: int = 1, *, syntax: str = ExplicitVRLittleEndian
) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames, rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    deep = syntax == JPEGLossless
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (16, 12, 11) if deep else (8, 8, 7)
    dataset.PixelData = pixel_data
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", deep
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_bytes_and_a_path_give_the_same_object_as_no_sandbox(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 90, 120)).astype(np.uint8)
    data = part10(pixels.tobytes(), 90, 120, 3)
    place = tmp_path / "instance.dcm"
    place.write_bytes(data)

    async def work(children: Sandbox[NormalizedObject]) -> None:
        found = [await children.call(source) for source in (data, str(place))]
        assert found == [normalize_part10(data)] * 2
        container = read_frames(found[0].data)
        assert np.array_equal(container.frames, pixels)
        assert (found[0].frame_numbers, found[0].total_frames) == ([1, 2, 3], 3)
        assert (found[0].rows, found[0].columns) == (90, 120)
        assert found[0].pipeline_digest == Pipeline().digest
        other = await children.call(data, {"max_frames": 1, "max_side": 60})
        assert (other.frame_numbers, other.columns) == ([1], 60)
        assert other.pipeline_digest == Pipeline(max_frames=1, max_side=60).digest

    in_children(work)


def test_reasons_cross_the_boundary() -> None:
    async def work(children: Sandbox[NormalizedObject]) -> None:
        (before,) = children.process_ids
        for data, reason in ((b"", "undecodable"), (part10(bytes(100), 90, 120), "frames-inconsistent")):
            with pytest.raises(PermanentError) as caught:
                await children.call(data)
            assert caught.value.reason == reason
        assert children.process_ids == {before}

    in_children(work)


def test_every_real_ultrasound_file_gives_frames_or_a_reason() -> None:
    spec = importlib.util.find_spec("data_store")
    if spec is None or spec.origin is None:
        pytest.skip("pydicom-data is not installed")
    files = sorted((Path(spec.origin).parent / "data").glob("*.dcm"))

    async def work(children: Sandbox[NormalizedObject]) -> None:
        reasons = [await _reason(children, path) for path in files]
        assert reasons.count("") >= 35
        assert set(reasons) <= {"", *(fault.value for fault in Fault)}

    in_children(work)


async def _reason(children: Sandbox[NormalizedObject], path: Path) -> str:
    try:
        result = await children.call(str(path))
    except PermanentError as error:
        return error.reason
    assert len(read_frames(result.data)) == len(result.frame_numbers)
    return ""


def test_a_thousand_frames_need_no_more_than_a_few_at_a_time(tmp_path: Path) -> None:
    """480 MB of native frames in a child that may add 80 MiB to what its libraries take."""
    place = tmp_path / "cine.dcm"
    size = 600 * 800
    data = part10(bytes(size), 600, 800, 1000)
    head = data[: -size - 4] + struct.pack("<I", size * 1000)
    with place.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size * 1000)  # a sparse file

    async def work(children: Sandbox[NormalizedObject]) -> None:
        result = await children.call(str(place))
        assert (result.total_frames, len(result.frame_numbers)) == (1000, 64)

    in_children(work, memory_bytes=80 * MIB)


def test_damaged_deep_jpeg_ends_as_a_reason_or_with_its_child() -> None:
    """GDCM aborts on some of them: that must never reach this process."""
    random = np.random.default_rng(5)
    whole = _lossless(64, 48)
    damaged = []
    for _ in range(40):
        frame = bytearray(whole)
        for place in random.integers(2, len(frame), 4):
            frame[place] = random.integers(0, 256)
        damaged.append(bytes(frame[: random.integers(20, len(frame) + 1)]))

    async def work(children: Sandbox[NormalizedObject]) -> None:
        assert (await children.call(wrapped(whole))).columns == 48
        outcomes = [await _outcome(children, wrapped(frame)) for frame in damaged]
        assert set(outcomes) <= {"", "died", "undecodable", "frames-inconsistent", "unsupported-pixel-format"}
        assert (await children.call(wrapped(whole))).columns == 48

    def wrapped(frame: bytes) -> bytes:
        return part10(encapsulate([frame]), 64, 48, syntax=JPEGLossless)

    in_children(work)


async def _outcome(children: Sandbox[NormalizedObject], data: bytes) -> str:
    try:
        await children.call(data, timeout=20)
    except PermanentError as error:
        return error.reason
    except ChildDiedError:
        return "died"
    return ""


def _lossless(rows: int, columns: int) -> bytes:
    """A grey 12-bit frame by JPEG process 14: differences of 0, but for the first one of each row."""
    frame = struct.pack(">BHHB3B", 12, rows, columns, 1, 1, 0x11, 0)
    table = bytes((0, 1, 0, 0, 0, *[0] * 12, 0))
    scan = bytes((1, 1, 0, 1, 0, 0))
    segments = [(0xC3, frame), (0xC4, table), (0xDA, scan)]
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return b"\xff\xd8" + head + bytes(rows * columns // 8) + b"\xff\xd9"


def test_configuring_silences_what_quotes_values(caplog: pytest.LogCaptureFixture) -> None:
    configure()
    assert cv2.getNumThreads() == 1
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pydicom").warning("CANARY^PATIENT-0001")
        logging.getLogger("pydicom.config").warning("CANARY^PATIENT-0001")
    assert not caplog.records
    with warnings.catch_warnings(record=True) as caught:
        configure.__wrapped__()
        warnings.warn_explicit("CANARY^PATIENT-0001", UserWarning, "valuerep.py", 1, module="pydicom.valuerep")
    assert not caught


def test_normalising_is_repeatable() -> None:
    data = part10(np.random.default_rng(2).integers(0, 256, (200, 300)).astype(np.uint8).tobytes(), 200, 300)
    digests = {hashlib.sha256(normalize_part10(data).data).hexdigest() for _ in range(3)}
    assert len(digests) == 1
