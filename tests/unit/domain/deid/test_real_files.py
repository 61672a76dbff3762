"""Real ultrasound, captures and reports of public packages: each ends clean or refused, and valid where it was."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.domain.imaging.image import open_image

if TYPE_CHECKING:
    from fetalmlops.domain.deid import Deidentifier

_REASONS = {fault.value for fault in Fault} | {"identity", "pixels-unproven", "unsupported-sop-class"}
_LARGEST = 8 << 20

# Dates of documents are required and removed all the same. YBR_FULL is valid in JPEG-LS (PS3.5 table 8.2.3-1), which dciodvfy
# does not know of ultrasound.
_EXPECTED_ERRORS = re.compile(
    r"Missing attribute Type 1 Required Element=<Content(Date|Time)>"
    r"|Unrecognized enumerated value <YBR_FULL> for value 1 of attribute <Photometric Interpretation>"
    r"|Unrecognized enumerated value <0> for value 1 of attribute <Planar Configuration>"
)


def _found() -> list[Path]:
    places: list[Path] = []
    for package in ("data_store", "deid_data", "pydicom"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            places += sorted(Path(folder).rglob("*.dcm"))
    return [place for place in places if place.stat().st_size <= _LARGEST and _is_ours(place)]


def _is_ours(place: Path) -> bool:
    head = place.read_bytes()[:4096]
    return head[128:132] == b"DICM" and any(uid.encode() in head for uid in STORAGE_CLASSES)


FILES = _found()
IDS = [place.name for place in FILES]


def test_there_are_files() -> None:
    if not FILES:
        pytest.skip("pydicom-data and deid-data are not installed")
    assert len(FILES) > 20


def _strings(part10: bytes) -> set[str]:
    """Return every name, identifier, UID and date of a file that is long enough to be looked for."""
    dataset = pydicom.dcmread(io.BytesIO(part10), stop_before_pixels=True)
    values = {
        str(element.value) for element in dataset.iterall() if element.VR in ("PN", "LO", "SH", "UI", "LT", "ST", "UT")
    }
    return {value for value in values if len(value) > 7 and not value.startswith("1.2.840.10008.")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source_clean", [False, True], ids=["validate", "clean"])
@pytest.mark.parametrize("place", FILES, ids=IDS)
def test_each_ends_clean_or_refused(deidentifier: Deidentifier, place: Path, source_clean: bool) -> None:
    part10 = place.read_bytes()
    reason = ""
    try:
        output, result = deidentifier.deidentify_bytes(part10, source_clean=source_clean)
    except PermanentError as error:
        reason = error.reason
    if reason:
        assert reason in _REASONS
        return
    assert not [text for text in _strings(part10) if text.encode("utf-8", "replace") in output]
    dated = [
        element.value for element in pydicom.dcmread(io.BytesIO(output)).iterall() if element.VR in ("DA", "DT", "TM")
    ]
    assert not any(dated)
    if result.report.rectangles and b"1.2.840.10008.1.2.1.99" not in part10[:512]:
        _check_pixels(part10, output, result.report.rectangles)


def _check_pixels(before: bytes, after: bytes, rectangles: list[tuple[int, int, int, int]]) -> None:
    sources = (open_image(io.BytesIO(data)).source for data in (before, after))
    for original, clean in zip(*(iter_frames(source, [1, source.layout.frames]) for source in sources), strict=True):
        outside = np.ones(clean.pixels.shape[:2], bool)
        for x0, y0, x1, y1 in rectangles:
            outside[y0:y1, x0:x1] = False
            assert np.array_equal(original.pixels[y0:y1, x0:x1], clean.pixels[y0:y1, x0:x1])
        rest = clean.pixels[outside]
        assert not rest.size or (rest == rest[0]).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("source_clean", [False, True], ids=["validate", "clean"])
@pytest.mark.parametrize("place", FILES, ids=IDS)
def test_no_new_error_of_dciodvfy(deidentifier: Deidentifier, place: Path, source_clean: bool, tmp_path: Path) -> None:
    try:
        output, _ = deidentifier.deidentify_bytes(place.read_bytes(), source_clean=source_clean)
    except PermanentError:
        return
    (tmp_path / "clean.dcm").write_bytes(output)
    new = _errors(tmp_path / "clean.dcm") - _errors(place)
    assert not [error for error in new if not _EXPECTED_ERRORS.search(error)]


def _errors(place: Path) -> set[str]:
    done = subprocess.run(["dciodvfy", str(place)], capture_output=True, timeout=60, check=False)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    return {line for line in lines if line.startswith("Error")}
