"""``fetalmlops deid survey`` as an integrator runs it: all is counted, nothing is changed, and nobody is named."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from rich.console import Console

from fetalmlops.cli.deid.survey import SurveyOptions, survey_folder
from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.pixels.devices import parse_device_profile
from fetalmlops.domain.deid.rules.profile import packaged_profile
from fetalmlops.domain.deid.survey.regions import RegionState
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, find_scanner, make_instance
from support import dicom_files

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = Path(sys.executable).with_name("fetalmlops")
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
FILE_NAME = "QXFILENAME"
IMAGES = 5


def survey(*arguments: object, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "deid", "survey", *map(str, arguments)],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def simulated(scanner: str, **options: Any) -> Iterable[Dataset]:
    for number in range(1, IMAGES + 1):
        spec = InstanceSpec(scanner=find_scanner(scanner), study=number, number=number, **options)
        yield pydicom.dcmread(pydicom.filebase.DicomBytesIO(make_instance(spec).data))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of four scanners and of none."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("proven", "without", "beyond", "capture"):
        (folder / name).mkdir()

    def keep(dataset: Dataset, kind: str) -> None:
        dataset.save_as(folder / kind / f"{FILE_NAME}-{dataset.InstanceNumber}.dcm")

    for dataset in simulated("alpha"):
        keep(dataset, "proven")
    for dataset in simulated("beta"):
        del dataset.SequenceOfUltrasoundRegions
        keep(dataset, "without")
    for dataset in simulated("gamma"):
        dataset.SequenceOfUltrasoundRegions[0].RegionLocationMaxX1 = 5000
        keep(dataset, "beyond")
    for dataset in simulated("delta"):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CAPTURE
        dataset.SoftwareVersions = f"for {dataset.PatientID}"
        keep(dataset, "capture")
    (folder / f"{FILE_NAME}.txt").write_text("QXCONTENT")
    (folder / os.fsdecode(b"\xff\xe4.dcm")).touch()
    (folder / "torn.dcm").write_bytes(next((folder / "proven").iterdir()).read_bytes()[:2000])
    (folder / "noise.dcm").write_bytes(bytes(128) + b"DICM" + b"QXCONTENT" * 50)
    os.mkfifo(folder / "pipe")
    return folder


def canaries(folder: Path) -> set[str]:
    """Return what must be in no report: names, ids, dates and UIDs of all files, and the names of the files."""
    found = {FILE_NAME, "QXCONTENT", *(folder.name, *folder.parts[-2:-1])}
    for place in folder.rglob("*.dcm"):
        try:
            elements = list(pydicom.dcmread(place, stop_before_pixels=True).iterall())
        except Exception:  # what pydicom cannot read has nothing that could be looked for
            continue
        for element in elements:
            if element.VR in ("PN", "DA", "DT", "UI", "LO", "SH", "TM") and element.keyword not in _OF_DEVICES:
                values = element.value if element.VM > 1 else [element.value]
                found |= {part for value in values for part in str(value).replace("^", "\n").split("\n")}
    return {text for text in found if len(text) > 5 and not text.startswith("1.2.840.10008.")}


_OF_DEVICES = {"Manufacturer", "ManufacturerModelName", "SoftwareVersions"}


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_each_scanner_is_told_what_it_comes_to(source: Path, tmp_path: Path) -> None:
    before = state(source)
    page, facts = tmp_path / "survey.html", tmp_path / "survey.json"
    done = survey(source, "--html", page, "--json", facts, "--paths")
    assert done.returncode == 0, done.stderr
    told = json.loads(facts.read_text())

    assert told["files"] == {
        "found": 4 * IMAGES + 4,
        "looked_at": 4 * IMAGES + 4,
        "dicom": 4 * IMAGES + 2,
        "not_dicom": 2,
        "unopened": 0,
        "clean": IMAGES,
        "refused": 3 * IMAGES + 2,
        "refused_share": round((3 * IMAGES + 2) / (4 * IMAGES + 2), 4),
        "interrupted": False,
    }
    assert told["unread_headers"] == {"undecodable": 2}
    scanners = {entry["manufacturer"]: entry for entry in told["scanners"]}
    alpha, beta, gamma, delta = (scanners[f"SIMULATED {name}"] for name in ("ALPHA", "BETA", "GAMMA", "DELTA"))
    assert (alpha["clean"], alpha["regions"], alpha["proofs"]) == (IMAGES, {"valid": IMAGES}, {"regions": IMAGES})
    assert alpha["proposal"] is None
    assert beta["regions"] == {"absent": IMAGES}
    assert gamma["regions"] == {"beyond the image": IMAGES}
    assert beta["outcomes"] == gamma["outcomes"] == delta["outcomes"] == {"pixels-unproven": IMAGES}
    assert delta["software"] == "withheld"
    assert delta["proposal"] is None
    assert "cannot name such a scanner" in delta["no_proposal"]
    assert len(told["refused_paths"]) == 3 * IMAGES + 2
    assert {entry["reason"] for entry in told["refused_paths"]} == {"pixels-unproven", "undecodable"}
    assert {str(source / entry["path"]) for entry in told["refused_paths"]} < set(before)
    _find_masks(
        page.read_text(), [alpha["kept"], *[beta["proposal"]] * 2, *[gamma["proposal"]] * 2], [alpha, beta, gamma]
    )
    assert f"{4 * IMAGES + 4} of {4 * IMAGES + 4} files looked at" in done.stdout
    assert state(source) == before
    assert {path.name for path in tmp_path.iterdir()} == {"survey.html", "survey.json"}


def _find_masks(page: str, kept: list[dict[str, Any]], scanners: list[dict[str, Any]]) -> None:
    """Find in each picture nothing but stripes around what is kept: writing is much brighter there."""
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]
    shapes = [scanners[0], *[scanners[1]] * 2, *[scanners[2]] * 2]
    assert len(pictures) == len(kept)
    for data, areas, shape in zip(pictures, kept, shapes, strict=True):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture.shape[1] == 320
        outside = np.ones(picture.shape, bool)
        for bounds in areas["rectangles"]:
            x0, y0, x1, y1 = (round(bound * 320 / shape["columns"]) for bound in bounds)
            outside[max(0, y0 - 8) : y1 + 8, max(0, x0 - 8) : x1 + 8] = False
        assert outside.mean() > 0.02
        assert 70 < picture[outside].min() <= picture[outside].max() < 140
        assert picture[~outside].std() > 20


def test_a_proposal_that_is_taken_proves_the_pixels(source: Path, tmp_path: Path) -> None:
    facts, devices = tmp_path / "survey.json", tmp_path / "devices"
    devices.mkdir()
    survey(source, "--json", facts)
    for entry in json.loads(facts.read_text())["scanners"]:
        if entry["proposal"]:
            proposal = entry["proposal"]
            profile = parse_device_profile(proposal["toml"], "proposal")
            assert (proposal["images"], proposal["patients"]) == (IMAGES, IMAGES)
            assert [list(bounds) for bounds in profile.rectangles] == proposal["rectangles"]
            (devices / f"{profile.name}.toml").write_text(proposal["toml"])
    assert len(list(devices.iterdir())) == 2
    survey(source, "--json", facts, "--devices", devices)
    told = json.loads(facts.read_text())
    assert told["files"]["clean"] == 3 * IMAGES
    assert sum(entry["proofs"].get("device_profile", 0) for entry in told["scanners"]) == 2 * IMAGES
    assert not any(entry["proposal"] for entry in told["scanners"])


@pytest.mark.filterwarnings("ignore")
def test_nobody_is_named(source: Path, tmp_path: Path) -> None:
    planted = canaries(source)
    assert len(planted) > 100
    page, facts = tmp_path / "survey.html", tmp_path / "survey.json"
    done = survey(source, "--html", page, "--json", facts)
    _find_nothing(planted, page.read_text(), facts.read_text(), done.stdout, done.stderr)


def _find_nothing(planted: set[str], *reports: str) -> None:
    for report in reports:
        assert report
        folded = report.casefold()
        assert not [text for text in planted if text.casefold() in folded]


@pytest.mark.filterwarnings("ignore")
def test_real_files_are_counted_and_nobody_is_named(tmp_path: Path) -> None:
    source = tmp_path / "real"
    source.mkdir()
    for package in ("data_store", "deid_data", "pydicom"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for number, place in enumerate(sorted(Path(folder).rglob("*.dcm"))):
                if place.stat().st_size < 4 << 20:
                    shutil.copy(place, source / f"{package}-{number}.dcm")
    copies = list(source.iterdir())
    if not copies:
        pytest.skip("pydicom-data and deid-data are not installed")
    page, facts = tmp_path / "survey.html", tmp_path / "survey.json"
    done = survey(source, "--html", page, "--json", facts)
    assert done.returncode == 0, done.stderr
    told = json.loads(facts.read_text())
    assert told["files"]["looked_at"] == len(copies) > 100
    assert told["files"]["clean"] > 0
    for place in copies:
        place.rename(place.with_stem(f"{FILE_NAME}-{place.stem}"))
    ours = _own_words(told)
    planted = {text for text in canaries(source) if text.casefold() not in ours}
    assert len(planted) > 500
    _find_nothing(planted, page.read_text(), facts.read_text())


def _own_words(told: dict[str, Any]) -> str:
    """Return what stands in every page, and what the standard and the makers of devices have named."""
    words = [files("fetalmlops.cli.deid").joinpath("templates/survey.html.j2").read_text(), "fetalmlops", *RegionState]
    for reason in told["reasons"]:
        words += [reason["reason"], reason["meaning"], reason["remedy"]]
    for entry in told["scanners"]:
        words += [entry[name] for name in ("manufacturer", "model", "software", "photometric")]
        words += [*entry["transfer_syntaxes"], *entry["sop_classes"]]
    return "\n".join(words).casefold()


def test_text_within_regions_is_found_and_filled(tmp_path: Path) -> None:
    source, page, facts = tmp_path / "source", tmp_path / "survey.html", tmp_path / "survey.json"
    source.mkdir()
    spec = InstanceSpec(scanner=find_scanner("alpha"), burn_in=BurnIn.INSIDE)
    (source / "1.dcm").write_bytes(make_instance(spec).data)
    survey(source, "--json", facts)
    assert json.loads(facts.read_text())["scanners"][0]["outcomes"] == {"clean": 1}
    survey(source, "--text", "--html", page, "--json", facts)
    told = json.loads(facts.read_text())
    assert told["scanners"][0]["outcomes"] == {"text-found": 1}
    assert told["rules"]["text_looked_for"]
    assert "with text are filled" in page.read_text() or "with text is filled" in page.read_text()


def test_a_file_that_kills_its_child_is_counted_as_such(tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(dicom_files.make_sample().part10())
    large = dicom_files.make_sample(rows=4000, columns=4000, photometric="RGB", samples=3)
    large.attributes[0x0018_6011] = ("SQ", [dicom_files.region(8, 400, 3900, 3900)])
    (tmp_path / "large.dcm").write_bytes(large.part10())
    bomb = dicom_files.make_sample(dicom_files.DEFLATED)
    bomb.attributes[0x0028_0106] = ("OB", bytes(200 << 20))
    (tmp_path / "bomb.dcm").write_bytes(bomb.part10())
    options = SurveyOptions(profile=STREAM, toml=packaged_profile("stream"), memory_mib=64, paths=True)
    done = survey_folder(tmp_path, sorted(tmp_path.iterdir()), options, Console(stderr=True))
    told = done.report(options)
    assert [(entry["rows"], entry["outcomes"]) for entry in told["scanners"]] == [
        (dicom_files.ROWS, {"clean": 1}),
        (4000, {"deadly": 1}),
    ]
    assert told["unread_headers"] == {"deadly": 1}
    assert told["refused_paths"] == [{"path": name, "reason": "deadly"} for name in ("bomb.dcm", "large.dcm")]


def test_what_was_seen_stays_after_a_stop(tmp_path: Path) -> None:
    source, facts = tmp_path / "source", tmp_path / "survey.json"
    source.mkdir()
    data = list(simulated("alpha"))
    for number in range(3000):
        place = source / f"{number:05}.dcm"
        if number < IMAGES:
            data[number].save_as(place)
        else:
            place.hardlink_to(source / f"{number % IMAGES:05}.dcm")
    process = subprocess.Popen(
        [PROGRAM, "deid", "survey", str(source), "--json", str(facts), "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (pids := children.read_text().split()) or not _has_read(pids):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    told = json.loads(facts.read_text())
    assert told["files"]["interrupted"]
    assert 0 < told["files"]["looked_at"] < told["files"]["found"] == 3000
    assert told["files"]["clean"] == told["files"]["looked_at"]
    assert "Stopped before the end" in out


def _has_read(pids: list[str]) -> bool:
    """Return whether a child has read some of the files."""
    try:
        return any(int(Path(f"/proc/{pid}/io").read_text().split()[1]) > 200_000_000 for pid in pids)
    except OSError:
        return False


def test_mistakes_are_answered(source: Path, tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.txt").write_text("QXCONTENT")
    none = survey(tmp_path)
    assert none.returncode == 1
    assert "Expected DICOM files (PS3.10) in the folder, got 1 files and none of them DICOM" in none.stderr
    assert FILE_NAME not in none.stdout + none.stderr
    assert survey(tmp_path / "nowhere").returncode == 2
    within = survey(source, "--html", source / "survey.html")
    assert (within.returncode, (source / "survey.html").exists()) == (78, False)
    assert "outside the folder" in within.stderr
    assert "a folder that exists" in survey(source, "--json", tmp_path / "no" / "survey.json").stderr
    assert "Expected a profile among" in survey(source, "--profile", "none").stderr
