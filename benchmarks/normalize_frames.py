"""Milliseconds from a Part 10 file's bytes to a normalised frame, against pydicom's decoding and an area resize.

Run: ``python benchmarks/normalize_frames.py [repetitions]``. Both sides run in turn in this process, one thread each, and
their CPU time counts. Ours also finds the sector among writing, measures quality and writes the frames object, which the peer
does not. The last column is the wall time of the same work in a child of a sandbox, the file's bytes sent to it.
Then a cine of 60 JPEG frames, through each named pipeline, against nothing but pydicom's decoding.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pydicom
import simplejpeg
from jpeg_ls import encode_buffer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLSLossless, UltrasoundImageStorage

from fetalmlops.domain.imaging.frames import NormalizedObject
from fetalmlops.domain.imaging.pipelines import PIPELINES
from fetalmlops.platform.dicom.decoding import configure, normalize_part10
from fetalmlops.platform.sandbox.parent import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS, COLUMNS, SIDE = 600, 800, 512
MODULE = "fetalmlops.platform.dicom.decoding"


def speckle() -> NDArray[np.uint8]:
    """Return a sector of speckle on black."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    radius, angle = np.hypot(y, x - COLUMNS / 2), np.abs(np.arctan2(x - COLUMNS / 2, y + 1))
    noise = cv2.GaussianBlur(np.random.default_rng(1).gamma(4, 14, (ROWS, COLUMNS)), (5, 3), 1)
    return np.where((radius < 0.95 * ROWS) & (angle < 0.6), np.clip(noise, 0, 255), 0).astype(np.uint8)


def part10(pixels: bytes | list[bytes], samples: int, syntax: str, photometric: str) -> bytes:
    """Return native pixels of a frame, or encoded frames, as a file."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, samples
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = photometric, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    if not isinstance(pixels, bytes) and len(pixels) > 1:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels if isinstance(pixels, bytes) else encapsulate(pixels)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", not isinstance(pixels, bytes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def cases() -> dict[str, bytes]:
    """Return the files, by name."""
    grey = speckle()
    colour = np.ascontiguousarray(np.dstack([grey, grey, grey // 8 * 7]))
    jpeg = simplejpeg.encode_jpeg(colour, 90, "RGB", "422")
    lossless = bytes(encode_buffer(grey.tobytes(), ROWS, COLUMNS, 1, 8))
    return {
        "native grey": part10(grey.tobytes(), 1, ExplicitVRLittleEndian, "MONOCHROME2"),
        "native RGB": part10(colour.tobytes(), 3, ExplicitVRLittleEndian, "RGB"),
        "JPEG YBR 4:2:2": part10([jpeg], 3, JPEGBaseline8Bit, "YBR_FULL_422"),
        "JPEG-LS grey": part10([lossless], 1, JPEGLSLossless, "MONOCHROME2"),
    }


def peer(data: bytes) -> NDArray[Any]:
    """Normalise the straightforward way: pydicom, OpenCV's conversion and area interpolation."""
    pixels = pixel_array(pydicom.dcmread(io.BytesIO(data)))
    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    down, across = np.flatnonzero(grey.max(axis=1) > 8), np.flatnonzero(grey.max(axis=0) > 8)
    crop = grey[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    scale = min(1, SIDE / max(crop.shape))
    size = (round(crop.shape[1] * scale), round(crop.shape[0] * scale))
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA))


def clock(work: Callable[[], Any]) -> float:
    """Return the CPU milliseconds that `work` takes."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3


def cine(frames: int) -> bytes:
    """Return a JPEG cine as a file."""
    grey = speckle()
    colour = np.ascontiguousarray(np.dstack([grey, grey, grey // 8 * 7]))
    jpeg = simplejpeg.encode_jpeg(colour, 90, "RGB", "422")
    return part10([jpeg] * frames, 3, JPEGBaseline8Bit, "YBR_FULL_422")


def compare_cine(frames: int, repetitions: int) -> None:
    """Print how a cine fares: pydicom's default decoding alone, against whole pipelines from file to frames."""
    data = cine(frames)
    times: dict[str, list[float]] = {"pydicom": [], **{name: [] for name in PIPELINES}}
    for _ in range(repetitions):
        times["pydicom"].append(clock(lambda: pixel_array(pydicom.dcmread(io.BytesIO(data)))))
        for name in PIPELINES:
            times[name].append(clock(lambda name=name: normalize_part10(data, {"max_side": 224}, name)))  # type: ignore[misc]
    theirs = statistics.median(times.pop("pydicom"))
    print(f"\n{frames}-frame JPEG cine to {frames} x 224: pydicom pixel_array alone {theirs:.0f} CPU ms")
    for name, values in times.items():
        ours = statistics.median(values)
        print(f"{name:16}{ours:>10.0f} CPU ms, whole{theirs / ours:>8.1f} times faster")


async def main(repetitions: int) -> None:
    """Print the table."""
    configure()
    print(f"{'600x800':16}{'bytes':>10}{'pydicom CPU ms':>16}{'here CPU ms':>13}{'ratio':>8}{'child wall ms':>15}")
    target, initializer = f"{MODULE}:normalize_part10", f"{MODULE}:configure"
    async with Sandbox(target, NormalizedObject, initializer=initializer) as sandbox:
        for name, data in cases().items():
            theirs, ours, child = [], [], []
            for _ in range(repetitions):
                theirs.append(clock(lambda data=data: peer(data)))  # type: ignore[misc]
                ours.append(clock(lambda data=data: normalize_part10(data)))  # type: ignore[misc]
                started = time.perf_counter()
                await sandbox.call(data)
                child.append((time.perf_counter() - started) * 1e3)
            a, b, c = (statistics.median(values) for values in (theirs, ours, child))
            print(f"{name:16}{len(data):>10}{a:>16.2f}{b:>13.2f}{a / b:>8.1f}{c:>15.2f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
    compare_cine(60, 3)
