"""``fetalmlops evaluate`` and ``compare`` as a person runs them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.imaging.pipelines import HARMONISED, find_pipeline
from fetalmlops.domain.learning.provenance import IMAGES_FILE, record_of
from fetalmlops.domain.models.bundle import load_bundle, seal_bundle
from fetalmlops.domain.models.manifest import PipelineEntry, Precision
from fetalmlops.platform.engines.openvino import supports_bf16
from fetalmlops.platform.inference.bundles import bundled_files, save_bundle
from fetalmlops.platform.learning.intended_use import packaged_intended_use
from support.learning import FolderData, phantom_data

RUNNER = CliRunner()
FAST = ("--replicates", "200")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FolderData:
    return phantom_data(tmp_path_factory.mktemp("phantoms") / "data", 36)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: object, expected: int = 0) -> str:
    result = RUNNER.invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == expected, result.output
    return result.output


def test_an_evaluation_writes_a_page_figures_gates_and_predictions(
    home: Path, tmp_path: Path, data: FolderData
) -> None:
    out = tmp_path / "out"
    command = ("evaluate", "--bundle", "demonstration", "--data", data.root, "--out", out, "--trials", 4, *FAST)
    said = run(*command, "--purpose", "a test")
    report = json.loads((out / "report.json").read_bytes())
    assert report["summary"]["images"] == 36
    assert report["data"]["digest"] == data.digest
    accuracy = report["summary"]["figures"]["accuracy"]
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert sum(row["label"] == row["plane"] for row in rows) / 36 == pytest.approx(accuracy["value"], abs=1e-5)
    assert f"{accuracy['value']:.3f}" in said
    assert "used 1 time" in said
    cases = ET.fromstring((out / "gates.xml").read_bytes())
    assert [case.get("name") for case in cases] == [gate["name"] for gate in report["gates"]]
    page = (out / "report.html").read_text()
    assert "A demonstration model." in page
    assert "has learnt from these images." not in page
    assert ("cannot be known" in page) is not report["seen"]["complete"]
    assert "a test" in page
    assert "Only 4 patients" in page
    for name in ("accuracy.macro_f1", "trans-ventricular", "empty sector", "falsely missing", data.digest):
        assert name in page
    run(*command, "--no-html")
    assert json.loads((out / "report.json").read_bytes())["uses"][0]["purpose"] == "a test"
    assert len((home / "datasets" / "phantoms" / "ledger.jsonl").read_bytes().splitlines()) == 2


def test_images_that_a_bundle_learnt_from_are_told(home: Path, tmp_path: Path, data: FolderData) -> None:
    packaged = load_bundle(bundled_files())
    evidence = msgspec.structs.replace(packaged.manifest.evidence, images_file=IMAGES_FILE)
    manifest = msgspec.structs.replace(packaged.manifest, name="learnt", version="1.0.0", evidence=evidence)
    files = {name: content for name, content in packaged.files.items() if name != "manifest.json"}
    files[IMAGES_FILE] = record_of(data.manifest.images[:7]).to_bytes()
    folder, out = save_bundle(home, seal_bundle(manifest, files)), tmp_path / "out"
    rest = ("--data", data.root, "--out", out, *FAST)
    said = run("evaluate", "--bundle", folder.name, "--trials", 0, *rest)
    assert "warning: learnt 1.0.0: 7 of 36 images had a part in making the bundle; the figures are too good" in said
    assert json.loads((out / "report.json").read_bytes())["seen"]["images"] == 7
    assert "learnt 1.0.0 has learnt from these images." in (out / "report.html").read_text()
    run("compare", "demonstration", folder.name, "--margin", 0.5, *rest)
    report = json.loads((out / "comparison.json").read_bytes())
    assert [seen["images"] for seen in report["seen"]] == [0, 7]
    assert "learnt 1.0.0 has learnt from these images." in (out / "comparison.html").read_text()


def test_a_page_stands_alone_and_tells_its_pictures(home: Path, tmp_path: Path, data: FolderData) -> None:
    out = tmp_path / "out"
    run("evaluate", "--bundle", "demonstration", "--data", data.root, "--out", out, "--trials", 2, *FAST)
    page = (out / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == 6
    assert all(re.search(r'alt="[^"]+"', picture) for picture in pictures)
    assert 'lang="en"' in page


def test_gates_decide_the_exit_code(home: Path, tmp_path: Path, data: FolderData) -> None:
    command = (
        "evaluate",
        "--bundle",
        "demonstration",
        "--data",
        data.root,
        "--out",
        tmp_path / "out",
        "--trials",
        0,
        *FAST,
    )
    packaged = packaged_intended_use().decode()
    for latency, expected in (("1e9", 3), ("1e-9", 1)):  # no machine is as slow, or as fast
        own = tmp_path / "use.toml"
        own.write_text(packaged.replace("latency_p95_ms = 100.0", f"latency_p95_ms = {latency}"))
        assert f"= {latency}" in own.read_text()
        run(*command, "--no-html", "--gates", "--intended-use", own, expected=expected)


def test_a_changed_image_an_absent_split_and_an_unknown_bundle_are_refused(home: Path, tmp_path: Path) -> None:
    data = phantom_data(tmp_path / "data", 2)
    command = ("evaluate", "--data", data.root, "--out", tmp_path / "out", "--no-html", "--bundle")
    assert "Expected a bundle's folder" in run(*command, "nothing", expected=78)
    assert "got none in this data set; it has test" in run(*command, "demonstration", "--split", "train", expected=1)
    path = data.root / data.manifest.images[0].path
    path.write_bytes(path.read_bytes() + b"x")
    assert "got a changed one" in run(*command, "demonstration", expected=1)
    assert not (home / "datasets" / "phantoms" / "ledger.jsonl").exists()


def test_bundles_are_compared_on_the_same_images(home: Path, tmp_path: Path, data: FolderData) -> None:
    packaged = load_bundle(bundled_files())
    pipeline = PipelineEntry(name=HARMONISED, digest=find_pipeline(HARMONISED).digest)
    network = packaged.manifest.variants[Precision.F32]
    variants = {Precision.F32: network, Precision.INT8: network}
    manifest = msgspec.structs.replace(
        packaged.manifest,
        name="harmonised-planes",
        pipeline=pipeline,
        variants=variants,
        default_precision=Precision.F32,
    )
    files = {name: content for name, content in packaged.files.items() if name != "manifest.json"}
    folder = save_bundle(home, seal_bundle(manifest, files))
    out = tmp_path / "out"
    names = ("demonstration", "demonstration", folder.name)
    said = run("compare", *names, "--data", data.root, "--out", out, "--margin", 0.5, *FAST)
    report = json.loads((out / "comparison.json").read_bytes())
    same, other = report["comparisons"]
    assert same["differences"]["accuracy"]["value"] == 0
    assert same["verdict"] == "not shown"  # four patients prove no equality
    assert other["differences"]["negative_log_likelihood"]["value"] != 0
    assert sum(placed["chosen"] for placed in report["pareto"]) == 1
    assert "(chosen)" in said
    assert report["margin"] == 0.5
    # Every bundle stands there in every precision that it has and this machine computes in, the serving one first.
    default = packaged.manifest.default_precision
    has = [default, *sorted(set(packaged.manifest.variants) - {default})]
    runs = [each for each in has if each is not Precision.BF16 or supports_bf16()]
    found = [(variant["bundle"], variant["precision"]) for variant in report["variants"]]
    assert found == [(index, each) for index in (0, 1) for each in runs] + [(2, "f32"), (2, "int8")]
    assert len(report["unmeasured"]) == (len(has) > len(runs))  # by name, and both have one
    assert [variant["cost"]["precision"] for variant in report["variants"]] == [each for _, each in found]
    serves = [each == default for _ in (0, 1) for each in runs]
    assert [variant["serves"] for variant in report["variants"]] == [*serves, True, False]
    assert report["variants"][-1]["agreement"] == 1  # the same network
    assert min(variant["agreement"] for variant in report["variants"]) > 0.9
    assert [placed["candidate"]["name"].rpartition(" ")[2] for placed in report["pareto"]] == [
        each for _, each in found
    ]
    assert [use["purpose"] for use in report["uses"]].count("comparison") == 3
    assert "comparison, int8" in {use["purpose"] for use in report["uses"]}
    page = (out / "comparison.html").read_text()
    assert "harmonised-planes" in page
    assert report["rule"].split("'")[0] in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "Expected two bundles or more" in run(
        "compare", "demonstration", "--data", data.root, "--out", out, expected=2
    )
