from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from fetalmlops.platform.dicom import decoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def _configured() -> None:
    decoding.configure()


def speckle(rows: int, columns: int, *, seed: int = 7) -> NDArray[np.uint8]:
    """A fan of speckle on black, [rows, columns]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    radius, angle = np.hypot(y, x - columns / 2), np.abs(np.arctan2(x - columns / 2, y + 1))
    fan = (radius < 0.95 * rows) & (angle < 0.6)
    levels = np.clip(random.gamma(4, 14, (rows, columns)) * (1.2 - radius / rows), 16, 255)
    return np.where(fan, levels, 0).astype(np.uint8)


def region(**changes: Any) -> Dataset:
    """A 2-D tissue region of 10 to 109 by 20 to 139, 0.2 mm x 0.1 mm a pixel."""
    values = {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionLocationMinX0": 20,
        "RegionLocationMinY0": 10,
        "RegionLocationMaxX1": 139,
        "RegionLocationMaxY1": 109,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.01,
        "PhysicalDeltaY": -0.02,
    }
    item = Dataset()
    for keyword, value in {**values, **changes}.items():
        if value is not None:
            setattr(item, keyword, value)
    return item


def part10(
    pixels: bytes | Sequence[bytes],
    shape: tuple[int, ...],
    *,
    syntax: str = ExplicitVRLittleEndian,
    frames: int | None = None,
    bits: int = 8,
    offset_table: bool = True,
    **attributes: Any,
) -> bytes:
    """A Part 10 file of native pixels (bytes) or of encoded frames (a list of them); shape is [rows, columns(, 3)]."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, "1.2.3"
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 3 if len(shape) > 2 else 1
    dataset.PhotometricInterpretation = "RGB" if len(shape) > 2 else "MONOCHROME2"
    if len(shape) > 2:
        dataset.PlanarConfiguration = 0
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    count = frames or (1 if isinstance(pixels, bytes) else len(pixels))
    if count > 1:
        dataset.NumberOfFrames = count
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels if isinstance(pixels, bytes) else encapsulate(list(pixels), has_bot=offset_table)
    dataset["PixelData"].VR = "OB" if not isinstance(pixels, bytes) or bits <= 8 else "OW"
    dataset["PixelData"].is_undefined_length = not isinstance(pixels, bytes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="session")
def make_part10() -> Callable[..., bytes]:
    return part10


@pytest.fixture(scope="session")
def make_region() -> Callable[..., Dataset]:
    return region


@pytest.fixture(scope="session")
def make_speckle() -> Callable[..., NDArray[np.uint8]]:
    return speckle
