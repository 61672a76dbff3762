"""``fetalmlops data``: adding, listing, checking and making data sets, as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from support.datasets import TABLE_TEXT, picture, write_fetal_planes, write_picture

runner = CliRunner()
REAL = Path(__file__).parents[4] / "shared/data/fetal_planes"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def _run(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, ["data", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def _findings(name: str, code: int = 0) -> dict[str, str]:
    report = json.loads(runner.invoke(app, ["data", "check", name, "--json"]).stdout)
    assert report["refused"] == bool(code)
    _run("check", name, code=code)
    return {finding["kind"]: finding["weight"] for finding in report["findings"]}


def test_a_set_is_added_listed_and_passes_its_check(tmp_path: Path) -> None:
    root = write_fetal_planes(tmp_path / "set")
    assert "6 images of 5 patients" in _run("add", root, "--layout", "fetal-planes", "--name", "small")
    assert "small" in _run("list")
    assert set(_findings("small").values()) == {"noted"}


def test_adding_twice_gives_the_same_digest(tmp_path: Path, home: Path) -> None:
    root = write_fetal_planes(tmp_path / "set")
    manifest = home / "datasets/small/manifest.json"
    _run("add", root, "--layout", "fetal-planes", "--name", "small", "--seed", 5)
    first = manifest.read_bytes()
    _run("add", root, "--layout", "fetal-planes", "--name", "small", "--seed", 5)
    assert manifest.read_bytes() == first


def test_absent_and_unreadable_images_are_refused_or_counted(tmp_path: Path, home: Path) -> None:
    root = write_fetal_planes(tmp_path / "set")
    images = sorted((root / "Images").iterdir())
    images[0].unlink()
    arguments = ("add", root, "--layout", "fetal-planes", "--name", "small")
    assert "--partial" in _run(*arguments, code=1)
    write_picture(images[0], picture(50))
    images[1].write_bytes(b"no picture")
    assert "got 1 that cannot" in _run(*arguments, code=1)
    images[0].unlink()
    _run(*arguments, "--partial")
    assert json.loads((home / "datasets/small/manifest.json").read_text())["excluded"] == {"absent": 1, "unreadable": 1}


def test_a_changed_and_a_lost_file_are_refused_later(tmp_path: Path) -> None:
    root = write_fetal_planes(tmp_path / "set")
    _run("add", root, "--layout", "fetal-planes", "--name", "small")
    first, second, *_ = sorted((root / "Images").iterdir())
    write_picture(first, picture(70))
    second.unlink()
    found = _findings("small", code=1)
    assert found["changed"] == found["unreadable"] == "refused"


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_duplicate_across_splits_is_refused(tmp_path: Path, kind: str) -> None:
    root = write_fetal_planes(tmp_path / "set")
    image = picture(0)
    if kind == "near":
        image = image.copy()
        image[:2] += 3
    write_picture(root / "Images/Patient00005_Plane6_1_of_1.png", image)
    _run("add", root, "--layout", "fetal-planes", "--name", "small")
    assert _findings("small", code=1)[f"{kind}-duplicate-across-splits"] == "refused"


def test_what_a_check_refuses_can_be_left_out_by_a_list(tmp_path: Path, home: Path) -> None:
    root = write_fetal_planes(tmp_path / "set")
    write_picture(root / "Images/Patient00005_Plane6_1_of_1.png", picture(0))
    (tmp_path / "list.txt").write_text("# also in test\n\nImages/Patient00001_Plane1_1_of_2.png\n")
    arguments = ("add", root, "--layout", "fetal-planes", "--name", "small", "--exclude", tmp_path / "list.txt")
    _run(*arguments)
    assert json.loads((home / "datasets/small/manifest.json").read_text())["excluded"] == {"by the list": 1}
    _findings("small")
    (tmp_path / "list.txt").write_text("Images/misspelt.png\n")
    assert "got 1 of others" in _run(*arguments, code=1)


def test_a_patient_on_both_sides_is_refused(tmp_path: Path) -> None:
    root = write_fetal_planes(tmp_path / "set", TABLE_TEXT.replace(";5;", ";1;"))
    assert "got 1 patients" in _run("add", root, "--layout", "fetal-planes", "--name", "small", code=1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--layout", "other", "--name", "a"), 2, "Expected a layout among"),
        (("--layout", "fetal-planes", "--name", "A B"), 1, "Expected a name of"),
        (("--layout", "folders", "--name", "a"), 1, "--patient-pattern"),
        (("--layout", "hc18", "--name", "a"), 1, "010_HC.png"),
        (("--layout", "dicom", "--name", "a"), 1, "clean DICOM files"),
        (("--layout", "results", "--name", "a"), 1, "--labels"),
    ],
)
def test_what_cannot_be_added_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    root = write_fetal_planes(tmp_path / "set")
    assert message in _run("add", root, *arguments, code=code)


def test_a_datasheet_stands_alone_and_shows_pictures_only_where_asked(tmp_path: Path) -> None:
    root = write_fetal_planes(tmp_path / "set", TABLE_TEXT.replace("Aloka", "<b>&Aloka"))
    _run("add", root, "--layout", "fetal-planes", "--name", "small")
    (tmp_path / "answers.toml").write_text('ethics = "Board <7>"')
    page, data = tmp_path / "sheet.html", tmp_path / "sheet.json"
    arguments = ("describe", "small", "--html", page, "--json", data, "--answers", tmp_path / "answers.toml")

    _run(*arguments)

    text = page.read_text()
    assert "Board &lt;7&gt;" in text
    assert "&lt;b&gt;&amp;Aloka" in text
    assert "<b>" not in text
    assert text.count("data:image/svg+xml") == 6
    assert "data:image/jpeg" not in text
    assert not any(f'{name}="http' in text for name in ("src", "href"))
    assert page.stat().st_mode & 0o077 == 0
    report = json.loads(data.read_text())
    assert report["facts"]["planes"]["brain"] == json.loads(_run("describe", "small"))["facts"]["planes"]["brain"]

    _run(*arguments, "--pictures", 2)
    assert page.read_text().count("data:image/jpeg") == 5


def test_a_page_is_not_begun_where_it_cannot_be_written(tmp_path: Path) -> None:
    assert "make it first" in _run("describe", "small", "--html", tmp_path / "absent/a.html", code=2)


def test_a_page_needs_the_report_extra_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_fetal_planes(tmp_path / "set")
    _run("add", root, "--layout", "fetal-planes", "--name", "small")
    monkeypatch.delitem(sys.modules, "fetalmlops.cli.datasheet.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "fetalmlops[report]" in _run("describe", "small", "--html", tmp_path / "a.html", code=78)


def test_folders_are_added_with_patients_from_a_pattern(tmp_path: Path) -> None:
    for number in range(4):
        write_picture(tmp_path / f"set/{'femur' if number % 2 else 'brain'}/case{number}.png", picture(number))
    shown = _run("add", tmp_path / "set", "--layout", "folders", "--name", "own", "--patient-pattern", r"case(\d+)")
    assert "4 images of 4 patients" in shown


def test_phantoms_are_made_gone_on_with_and_added(tmp_path: Path) -> None:
    out = tmp_path / "phantoms"
    assert "20 images made" in _run("simulate", out, "--images", 20, "--workers", 1)
    before = {path.name: path.read_bytes() for path in (out / "Images").iterdir()}
    lost = sorted(before)[7]
    (out / "Images" / lost).unlink()
    assert "1 images made, 19 were there" in _run("simulate", out, "--images", 20, "--workers", 1)
    assert (out / "Images" / lost).read_bytes() == before[lost]
    assert "without another data set" in _run("simulate", out, "--images", 20, "--seed", 9, code=1)
    assert "20 images" in _run("add", out, "--layout", "fetal-planes", "--name", "phantoms")
    assert set(_findings("phantoms").values()) == {"noted"}


def test_phantoms_with_scanners_kept_apart_are_added_by_their_table(tmp_path: Path) -> None:
    out = tmp_path / "phantoms"
    assert "27 images made" in _run("simulate", out, "--images", 27, "--layout", "folders", "--workers", 1)
    added = _run("add", out, "--layout", "folders", "--patients", out / "patients.csv", "--name", "apart")
    assert "27 images" in added
    assert set(_findings("apart").values()) == {"noted"}
    assert "or folders, got another" in _run("simulate", out, "--layout", "hc18", code=2)


def test_two_processes_make_the_same_pictures_as_one(tmp_path: Path) -> None:
    _run("simulate", tmp_path / "one", "--images", 24, "--workers", 1)
    code = "from fetalmlops.cli.main import app; app()"
    command = [
        sys.executable,
        "-c",
        code,
        "data",
        "simulate",
        str(tmp_path / "two"),
        "--images",
        "24",
        "--workers",
        "2",
    ]
    subprocess.run(command, check=True, timeout=120, env=dict(os.environ), capture_output=True)
    names = sorted(path.name for path in (tmp_path / "one/Images").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two/Images").iterdir())
    for name in names:
        assert (tmp_path / "one/Images" / name).read_bytes() == (tmp_path / "two/Images" / name).read_bytes()


@pytest.mark.skipif(not (REAL / "images").is_dir(), reason="real images are not at hand")
def test_the_exact_duplicate_among_real_images_is_found(tmp_path: Path) -> None:
    root = tmp_path / "real"
    root.mkdir()
    (root / "Images").symlink_to(REAL / "images")
    (root / "FETAL_PLANES_DB_data.csv").symlink_to(REAL / "FETAL_PLANES_DB_data.csv")
    _run("add", root, "--layout", "fetal-planes", "--name", "real", "--partial")
    report = json.loads(runner.invoke(app, ["data", "check", "real", "--json"]).stdout)
    duplicates = {f["kind"]: f["paths"] for f in report["findings"] if "duplicate" in f["kind"]}
    assert duplicates == {
        "exact-duplicate-within-patient": [
            "Images/Patient01648_Plane5_2_of_5.png = Images/Patient01648_Plane5_4_of_5.png"
        ]
    }
