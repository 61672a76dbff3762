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
from fetalmlops.domain.deid import Deidentifier, Profile
from fetalmlops.domain.deid.files.reader import read_header
from fetalmlops.domain.deid.pixels.devices import DEVICE_TAGS, DeviceProfile, DeviceProfiles, read_device
from fetalmlops.domain.errors import FetalMLOpsError, PermanentError
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, Kind, Layout, Photometric, make_instance
from support.deid import codes_for

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey

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


@pytest.mark.parametrize(
    "place", [place for place in FILES if place.name.startswith("OBXXXX1A")], ids=lambda place: place.name
)
def test_a_region_that_ends_one_column_beyond_the_image_leaves_the_name_band_out(
    deidentifier: Deidentifier, place: Path
) -> None:
    data = place.read_bytes()
    output, result = deidentifier.deidentify_bytes(data)
    assert result.report.rectangles == [(120, 60, 800, 519), (176, 522, 744, 577)]
    before, after = (open_image(io.BytesIO(part10)).source for part10 in (data, output))
    for original, clean in zip(*(iter_frames(source, [1]) for source in (before, after)), strict=True):
        assert np.ptp(original.pixels[:60]) > 0, "the band with names is above the picture"
        assert not clean.pixels[:60].any()


CLEAN_OR_NOT: set[str] = set()
"""Names of files that ended clean by some proof."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("proof", ["regions", "source declared clean", "device profile"])
@pytest.mark.parametrize("place", FILES, ids=IDS)
def test_no_new_error_of_dciodvfy(key: PseudonymKey, place: Path, proof: str, tmp_path: Path) -> None:
    """Under each proof: few real files have regions that prove their pixels, and all headers are to be proven."""
    data = place.read_bytes()
    devices = _devices(data) if proof == "device profile" else DeviceProfiles()
    try:
        output, _ = Deidentifier(key, devices=devices).deidentify_bytes(
            data, source_clean=proof == "source declared clean"
        )
    except PermanentError:
        return
    CLEAN_OR_NOT.add(place.name)
    (tmp_path / "clean.dcm").write_bytes(output)
    new = _errors(tmp_path / "clean.dcm") - _errors(place)
    assert not [error for error in new if not _EXPECTED_ERRORS.search(error)]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
def test_most_files_ended_clean() -> None:
    if not CLEAN_OR_NOT:
        pytest.skip("no file was de-identified in this run")
    assert len(CLEAN_OR_NOT) > len(FILES) * 0.6


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("kind", Kind)
def test_no_new_error_of_dciodvfy_on_simulated_kinds(
    key: PseudonymKey, profile: Profile, kind: Kind, tmp_path: Path
) -> None:
    layout = Layout(photometric=Photometric.RGB) if kind is Kind.SECONDARY_CAPTURE_COLOUR else Layout()
    burn_in = BurnIn.NONE if kind.value.startswith("secondary") else BurnIn.OUTSIDE
    (tmp_path / "before.dcm").write_bytes(make_instance(InstanceSpec(kind=kind, layout=layout, burn_in=burn_in)).data)
    output, _ = Deidentifier(codes_for(profile, key), profile).deidentify_bytes(
        (tmp_path / "before.dcm").read_bytes(), source_clean=kind.value.startswith("secondary")
    )
    (tmp_path / "clean.dcm").write_bytes(output)
    new = _errors(tmp_path / "clean.dcm") - _errors(tmp_path / "before.dcm")
    assert not [error for error in new if not _EXPECTED_ERRORS.search(error)]


def _devices(part10: bytes) -> DeviceProfiles:
    """Return a profile of the device that made a file, keeping all but the uppermost tenth; none where it names no device."""
    try:
        header = read_header(io.BytesIO(part10), {**dict.fromkeys(DEVICE_TAGS, None)})
        layout = open_image(io.BytesIO(part10)).source.layout
        device = read_device(header.dataset, layout)
        if device is None:
            return DeviceProfiles()
        area = (0, layout.rows // 10, layout.columns, layout.rows)
        return DeviceProfiles([DeviceProfile(name="top", version=1, device=device, rectangles=(area,))])
    except FetalMLOpsError:
        return DeviceProfiles()


def _errors(place: Path) -> set[str]:
    done = subprocess.run(["dciodvfy", str(place)], capture_output=True, timeout=60, check=False)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    return {line for line in lines if line.startswith("Error")}
