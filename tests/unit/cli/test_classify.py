"""The command by its own process: what a user sees of it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, Plane
from fetalmlops.domain.simulation.rendering import render
from fetalmlops.domain.simulation.scanners import SCANNERS

KEYS = ["path", "plane", "probabilities", "brain_probabilities", "decision", "ood_score", "quality"]


def run(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from fetalmlops.cli.main import app; app()",
        "--home",
        str(home),
        *map(str, arguments),
    ]
    # A table as wide as the paths of temporary folders.
    environment = {**os.environ, "COLUMNS": "240"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "deeper").mkdir()
    for index, plane in enumerate(PLANES):
        brain_plane = BRAIN_PLANES[0] if plane is Plane.BRAIN else None
        pixels = render(
            plane, SCANNERS[index % len(SCANNERS)], np.random.default_rng(index), brain_plane=brain_plane
        ).pixels
        shown = pixels if pixels.ndim == 2 else pixels[..., ::-1]
        place = root / "deeper" if index % 2 else root
        assert cv2.imwrite(str(place / f"{plane}.{'png' if index % 2 else 'jpg'}"), shown)
    (root / "=not an image").write_bytes(b"hello")
    (root / "cut.png").write_bytes((root / "deeper" / "brain.png").read_bytes()[:3000])
    noise = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
    cv2.imwrite(str(root / "noise.png"), noise)
    return root


def test_json_has_exactly_the_promised_keys_and_errors_do_not_stop_the_rest(folder: Path, tmp_path: Path) -> None:
    done = run("classify", folder, "--json", "--bundle", "demonstration", home=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr
    failed = {Path(line["path"]).name for line in lines if "error" in line}
    assert failed == {"=not an image", "cut.png"}
    results = {Path(line["path"]).name.split(".")[0]: line for line in lines if "error" not in line}
    assert set(results) == {*PLANES, "noise"}
    for line in results.values():
        assert list(line) == KEYS
        assert list(line["probabilities"]) == ["other", "brain", "thorax", "abdomen", "femur", "cervix"]
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert list(line["brain_probabilities"]) == [*BRAIN_PLANES]
    assert results["noise"]["decision"] == "out_of_scope"
    assert sum(results[plane]["plane"] == plane for plane in PLANES) >= 5


def test_csv_can_be_read_and_no_cell_is_a_formula(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from fetalmlops.cli.main import app; app()",
            "--home",
            str(tmp_path),
            "classify",
            "=not an image",
            "deeper",
            "--csv",
            "--bundle",
            "demonstration",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["path"] for row in rows][:2] == ["'=not an image", "deeper/abdomen.png"]
    assert rows[0]["error"].startswith("Expected a PNG")
    assert rows[0]["plane"] == ""
    assert rows[1]["error"] == ""
    assert float(rows[1]["abdomen"]) == max(float(rows[1][plane]) for plane in PLANES)
    assert None not in rows[0]


def test_a_good_file_alone_exits_with_0_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in folder.rglob("*"))
    done = run("classify", folder / "deeper" / "brain.png", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "brain" in done.stdout
    assert "not for clinical use" in done.stdout
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_results_do_not_depend_on_how_many_files_there_are(folder: Path, tmp_path: Path) -> None:
    together = run("classify", folder / "deeper", "--json", home=tmp_path).stdout.splitlines()
    alone = run("classify", folder / "deeper" / "brain.png", "--json", home=tmp_path).stdout.splitlines()
    assert alone[0] in together


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--json", "--csv"], "--json or --csv"), (["--bundle", "no-such-bundle"], "demonstration")],
)
def test_what_cannot_be_is_refused_in_one_line(folder: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run("classify", folder, *arguments, home=tmp_path)
    assert done.returncode == 78
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
