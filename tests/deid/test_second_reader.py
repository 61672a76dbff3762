"""A second reader, Tesseract, which the engine does not use: it reads the texts around real frames before, and none after.

The frames are of public packages. What they say is not written down here: every text that stands wholly outside of what may
stay is taken for identifying.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_color_lut

from fetalmlops.domain.deid import STREAM, Deidentifier
from fetalmlops.domain.deid.pixels.devices import Device, DeviceProfile, DeviceProfiles
from fetalmlops.domain.deid.rules.explain import Fate, explain
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not shutil.which("tesseract"), reason="tesseract (tesseract-ocr) is not installed"),
]

_SHORTEST = 4
_SCALE = 2


@dataclass(frozen=True)
class Frame:
    """A real file, the areas of its picture where a person drew them, and how many texts the reader finds around them."""

    package: str
    name: str
    least_texts: int
    areas: tuple[tuple[int, int, int, int], ...] = ()


FRAMES = (
    Frame("deid_data", "GREYSCALE_IMAGE.dcm", 4),
    Frame("deid_data", "RGB_IMAGE.dcm", 4),
    Frame("data_store", "US1_UNCI.dcm", 2, ((44, 107, 598, 337),)),
    Frame("data_store", "OBXXXX1A.dcm", 2),
)


@pytest.fixture(params=FRAMES, ids=lambda frame: frame.name)
def frame(request: pytest.FixtureRequest) -> Frame:
    return request.param


@pytest.fixture
def data(frame: Frame) -> bytes:
    spec = importlib.util.find_spec(frame.package)
    if spec is None:
        pytest.skip(f"{frame.package} is not installed")
    folder = Path((spec.submodule_search_locations or [""])[0])
    return next(folder.rglob(frame.name)).read_bytes()


def test_nothing_around_the_picture_can_be_read_and_the_picture_stays(
    frame: Frame, data: bytes, key: PseudonymKey
) -> None:
    output, result = Deidentifier(key, devices=_devices(frame, data)).deidentify_bytes(data)
    rectangles = result.report.rectangles
    assert result.report.pixel_action == ("device_profile" if frame.areas else "regions")
    before, after = _picture(data), _picture(output)
    outside = np.ones(before.shape[:2], bool)
    for x0, y0, x1, y1 in rectangles:
        outside[y0:y1, x0:x1] = False
    assert (~outside).mean() > 0.3, "blanking everything is no solution"
    assert np.array_equal(before[~outside], after[~outside]), "all of the picture is bit-identical, text in it included"
    assert np.ptp(before[outside]) > 100, "there is something to blank"
    assert (after[outside] == after[outside][0]).all()
    identifying = [text for text, box in _read(before) if _is_outside(box, rectangles)]
    assert len(identifying) >= frame.least_texts
    read = [text for text, _ in _read(after)]
    assert not [text for text in identifying if any(text in found for found in read)]
    assert not [text for text, box in _read(after) if _is_outside(box, rectangles)]


def test_every_attribute_of_the_keep_list_stays(frame: Frame, data: bytes, key: PseudonymKey) -> None:
    output, _ = Deidentifier(key, devices=_devices(frame, data)).deidentify_bytes(data)
    before, after = (pydicom.dcmread(io.BytesIO(part10)) for part10 in (data, output))
    kept = [
        element for element in before if explain(STREAM, int(element.tag)).fate is Fate.KEPT and not element.is_empty
    ]
    assert len(kept) >= 8
    assert [element.keyword for element in kept if element.tag not in after] == []


def _devices(frame: Frame, data: bytes) -> DeviceProfiles:
    if not frame.areas:
        return DeviceProfiles()
    dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    software = dataset.SoftwareVersions
    device = Device(
        manufacturer=dataset.Manufacturer,
        model=dataset.ManufacturerModelName,
        software=software if isinstance(software, str) else "\\".join(software),
        rows=dataset.Rows,
        columns=dataset.Columns,
        photometric=Photometric(dataset.PhotometricInterpretation),
    )
    return DeviceProfiles([DeviceProfile(name="drawn", version=1, device=device, rectangles=frame.areas)])


def _picture(part10: bytes) -> NDArray[Any]:
    dataset = pydicom.dcmread(io.BytesIO(part10))
    pixels = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return (apply_color_lut(pixels, dataset) >> 8).astype(np.uint8)
    return np.asarray(pixels)


def _read(picture: NDArray[Any]) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Return the texts of a picture with their boxes in its pixels, upper bounds exclusive."""
    large = cv2.resize(picture, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC)
    image = cv2.imencode(".png", large[..., ::-1] if large.ndim == 3 else large)[1].tobytes()
    done = subprocess.run(
        ["tesseract", "stdin", "stdout", "--psm", "11", "tsv"],
        input=image,
        capture_output=True,
        timeout=120,
        check=True,
    )
    found = []
    for row in csv.DictReader(io.StringIO(done.stdout.decode()), delimiter="\t", quoting=csv.QUOTE_NONE):
        if sum(map(str.isalnum, row["text"] or "")) < _SHORTEST or float(row["conf"]) < 0:
            continue
        left, top, width, height = (int(row[name]) // _SCALE for name in ("left", "top", "width", "height"))
        found.append((row["text"], (left, top, left + width, top + height)))
    return found


def _is_outside(box: tuple[int, int, int, int], rectangles: list[tuple[int, int, int, int]]) -> bool:
    x0, y0, x1, y1 = box
    return all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d in rectangles)
