"""``fetalmlops leave-out`` as a person runs it: bundles at hand, and trainings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.learning.manifest import Split, encode_data_manifest
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.platform.inference.bundles import read_bundle_folder
from support.learning import phantom_data

RUNNER = CliRunner()
SCANNERS = 2
SPLITS = (Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST)
RECIPE = """name = "{name}"
version = "1.0.0"
licence = "Apache-2.0"
release_status = "demonstration"
pipeline = "{pipeline}"
network = {{ widths = [8, 16, 24] }}
input = {{ rows = 48, columns = 64 }}
fitting = {{ epochs = {epochs}, batch = 10 }}
"""


def write_data(folder: Path, patients: int) -> Path:
    """Phantoms of two scanners, each with patients in every split."""
    data = phantom_data(folder, 6 * patients, per_patient=6)
    names = sorted({each.scanner for each in data.manifest.images})[:SCANNERS]
    images = [
        msgspec.structs.replace(
            each,
            scanner=names[int(each.patient[1:]) % SCANNERS],
            split=SPLITS[int(each.patient[1:]) // SCANNERS % len(SPLITS)],
        )
        for each in data.manifest.images
    ]
    manifest = msgspec.structs.replace(data.manifest, images=images)
    (folder / "manifest.json").write_bytes(encode_data_manifest(manifest))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: object, expected: int = 0) -> str:
    result = RUNNER.invoke(app, ["leave-out", *map(str, arguments)], env={"COLUMNS": "220"})
    assert result.exit_code == expected, result.output
    return result.output


def test_bundles_at_hand_are_judged_by_the_scanner_that_each_has_not_seen(home: Path, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", 8), tmp_path / "out"
    names = sorted({each["scanner"] for each in json.loads((data / "manifest.json").read_bytes())["images"]})
    mapping = [part for name in names for part in ("--made", f"{name}=demonstration")]
    said = run("--data", data, "--out", out, *mapping, "--within", "demonstration", "--replicates", 200)
    report = json.loads((out / "leave-out.json").read_bytes())
    (facts,) = report["sets"]
    assert list(facts["figures"]["groups"]) == names
    assert facts["figures"]["gap"]["value"] == 0
    assert facts["figures"]["left_out"]["accuracy"]["images"] == 12
    assert names[0] in said
    assert [use["purpose"] for use in report["uses"]] == ["leave one out"] * 3
    page = (out / "leave-out.html").read_text()
    assert "Of one scanner only 1 patient." in page
    said = f"has learnt from the images of {names[0]} cannot be known."
    assert (said in page) is not facts["seen"][names[0]]["complete"]
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "there are" in run("--data", data, "--out", out, "--made", "nobody's=demonstration", expected=1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "--recipe once or twice"),
        (("--made", "a=demonstration", "--recipe", "demonstration"), "--recipe once or twice"),
        (("--recipe", "demonstration", "--within", "demonstration"), "--recipe once or twice"),
        (("--made", "demonstration"), "GROUP=BUNDLE"),
        (("--made", "a=demonstration", "--made", "a=demonstration"), "each group once"),
    ],
)
def test_what_cannot_be_meant_is_refused(home: Path, tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    assert why in run("--data", tmp_path, "--out", tmp_path / "out", *options, expected=2)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.timeout(600)
def test_a_recipe_is_trained_without_each_scanner_and_goes_on_where_it_stopped(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the train extra")
    pytest.importorskip("mlflow", reason="training needs the train extra")
    data, out = write_data(tmp_path / "data", 24), tmp_path / "out"
    recipes = []
    for pipeline in ("plain", "harmonised"):
        recipes += ["--recipe", tmp_path / f"{pipeline}.toml"]
        recipes[-1].write_text(RECIPE.format(name=f"tiny-{pipeline}", pipeline=pipeline, epochs=2))
    command = ("--data", data, "--out", out, *recipes, "--replicates", 200)
    said = run(*command)
    report = json.loads((out / "leave-out.json").read_bytes())
    plain, harmonised = report["sets"]
    (first, second) = plain["figures"]["groups"]
    assert harmonised["figures"]["groups"].keys() == {first, second}
    assert set(report["change"]["groups"]) == {first, second}
    assert plain["kwh"] > 0
    images = json.loads((data / "manifest.json").read_bytes())["images"]
    for group in (first, second):
        # What a bundle learnt from is exactly the training and validation images of the other scanner.
        others = [each for each in images if each["scanner"] != group and each["split"] != "test"]
        assert plain["learnt"][group] == len(others)
        assert plain["seen"][group] == {**plain["seen"][group], "images": 0, "complete": True}
        tested = [each for each in images if each["scanner"] == group and each["split"] == "test"]
        assert plain["figures"]["groups"][group]["images"] == len(tested)
    folders = sorted((out / "bundles").iterdir())
    assert len(folders) == 6
    bundles = {folder.name: load_bundle(read_bundle_folder(folder)) for folder in folders}
    assert all("test" not in bundle.manifest.metrics for bundle in bundles.values())
    assert len(list((home / "training" / "frames").glob("*[!s].npy"))) <= 4  # one cache a pipeline, with its sizes
    assert "harmonised less tiny-plain" in said

    (folders[0] / "manifest.json").unlink()  # as if it had been killed before the manifest
    (folders[1] / "model.onnx").write_bytes(b"broken")
    again = run(*command, "--resume")
    assert again.count("is there") == 4
    assert load_bundle(read_bundle_folder(folders[1])).files["model.onnx"]
    remade = load_bundle(read_bundle_folder(folders[0]))
    weights = remade.manifest.weights
    assert remade.files[weights] == bundles[folders[0].name].files[weights]
    changed = json.loads((out / "leave-out.json").read_bytes())["sets"]
    assert [each["figures"] for each in changed] == [each["figures"] for each in report["sets"]]
