"""``fetalmlops deid IN OUT`` as a user runs it: whole files or none, on after a kill, a reason for each refusal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

PROGRAM = Path(sys.executable).with_name("fetalmlops")
IMAGES = 30
CANARY = "QXCANARY"


def fetalmlops(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        env={**os.environ, "FETALMLOPS_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    assert fetalmlops(folder, "keys", "make").returncode == 0
    return folder


@pytest.fixture(scope="module")
def source(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    assert fetalmlops(home, "simulate", "--instances", IMAGES, "--out", folder).returncode == 0
    (folder / "notes.txt").write_text(f"{CANARY} is no image")
    return folder


def clean_files(target: Path) -> dict[str, bytes]:
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*.dcm")}


@pytest.mark.parametrize("profile", ["stream", "research", "full-dates", "safe-harbor"])
def test_each_file_is_clean_or_refused_with_its_reason(home: Path, source: Path, tmp_path: Path, profile: str) -> None:
    target, report = tmp_path / "target", tmp_path / "report.json"
    done = fetalmlops(home, "deid", source, target, "--profile", profile, "--report", report)
    assert done.returncode == 3, done.stderr
    told = json.loads(report.read_text())
    assert told["files"] == {"clean": IMAGES, "undecodable": 1}
    assert [entry["file"] for entry in told["refused"]] == ["notes.txt"]
    assert told["refused"][0]["message"].startswith("Expected")
    assert CANARY not in report.read_text() + done.stdout + done.stderr
    files = clean_files(target)
    assert len(files) == IMAGES
    names = {str(pydicom.dcmread(path).PatientName) for path in source.rglob("*.dcm")}
    assert all(not any(name.encode() in data for name in names) for data in files.values())
    assert not (target / ".drafts").exists()

    again = fetalmlops(home, "deid", source, target, "--profile", profile)
    assert f"{IMAGES + 1} of them by an earlier run" in again.stdout
    assert clean_files(target) == files


def test_a_name_that_is_no_text_stops_nothing(home: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(next(source.rglob("*.dcm")), tmp_path / "in" / os.fsdecode(b"\xff\xe4.dcm"))
    done = fetalmlops(home, "deid", tmp_path / "in", tmp_path / "out", "--report", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["files"] == {"clean": 1}


def test_two_workers_and_one_give_the_same_bytes(home: Path, source: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        fetalmlops(home, "deid", source, tmp_path / str(workers), "--workers", workers)
    assert clean_files(tmp_path / "1") == clean_files(tmp_path / "2") != {}


def test_a_run_that_was_killed_goes_on(home: Path, source: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fetalmlops(home, "deid", source, whole)
    process = subprocess.Popen(
        [PROGRAM, "deid", source, broken, "--workers", "1"],
        env={**os.environ, "FETALMLOPS_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not clean_files(broken):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = clean_files(broken)
    assert all(data == clean_files(whole)[name] for name, data in left.items()), "what is there is whole"
    fetalmlops(home, "deid", source, broken)
    assert clean_files(broken) == clean_files(whole)


def test_another_profile_is_other_work(home: Path, source: Path, tmp_path: Path) -> None:
    fetalmlops(home, "deid", source, tmp_path / "target", "--profile", "stream")
    again = fetalmlops(home, "deid", source, tmp_path / "target", "--profile", "full-dates")
    assert "earlier run" not in again.stdout


def test_mistakes_are_answered(home: Path, source: Path, tmp_path: Path) -> None:
    inside = fetalmlops(home, "deid", source, source / "out")
    assert inside.returncode != 0
    assert "Expected a target folder apart from the source" in inside.stderr
    unknown = fetalmlops(home, "deid", source, tmp_path / "x", "--profile", "none")
    assert "Expected a profile among full-dates, research, safe-harbor, stream" in unknown.stderr
    assert not (tmp_path / "x").exists()
    keyless = fetalmlops(tmp_path / "nowhere", "deid", source, tmp_path / "y")
    assert keyless.returncode != 0
    assert "Expected" in keyless.stderr
    assert not (tmp_path / "y").exists()


def test_an_attribute_is_explained(home: Path) -> None:
    told = fetalmlops(home, "deid", "explain", "research", "StudyDate")
    assert told.returncode == 0
    assert "shifted by the patient's days into the past" in told.stdout
    assert "option modified_dates" in told.stdout
    assert "safe-harbor" in fetalmlops(home, "deid", "profiles").stdout
