from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.planes import ReleaseStatus
from fetalmlops.domain.errors import ObjectMissingError
from fetalmlops.domain.imaging.pipelines import PIPELINES, find_pipeline
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.manifest import FIRST_PIPELINE, MANIFEST_NAME, decode_manifest
from fetalmlops.platform.inference.bundles import bundled_files, read_bundle_folder
from fetalmlops.platform.settings import NormalizerSettings

if TYPE_CHECKING:
    from pathlib import Path


def test_the_package_carries_a_small_demonstration_bundle() -> None:
    files = bundled_files()
    bundle = load_bundle(files)
    assert bundle.manifest.release_status is ReleaseStatus.DEMONSTRATION
    assert sum(map(len, files.values())) < 3_000_000


def test_its_card_says_plainly_what_it_is_worth() -> None:
    bundle = load_bundle(bundled_files())
    card = bundle.files[bundle.manifest.card].decode()
    for words in ("no image of a person", "Worth nothing on patients", "demonstration"):
        assert words in card
    evident = bundle.manifest.evidence.figures
    for data, figures in bundle.manifest.metrics.items():
        for name, value in figures.items():
            # One with an interval is told in its place.
            told = evident.get(data, {}).get(name)
            assert f"| {data} | {name} | {told.value if told else value:.4g} |" in card


def test_it_names_the_pipeline_that_is_the_default_of_the_settings() -> None:
    pipeline = load_bundle(bundled_files()).manifest.pipeline
    assert pipeline.digest == find_pipeline(pipeline.name).digest
    assert NormalizerSettings().pipelines == (pipeline.name,)


def test_a_manifest_that_names_no_pipeline_means_the_first_one() -> None:
    sealed = json.loads(bundled_files()[MANIFEST_NAME])
    del sealed["pipeline"]
    assert decode_manifest(json.dumps(sealed).encode()).pipeline == FIRST_PIPELINE
    assert find_pipeline(FIRST_PIPELINE.name).digest == FIRST_PIPELINE.digest


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_can_be_set(name: str) -> None:
    assert NormalizerSettings.model_validate({"pipelines": [name]}).pipelines == (name,)


def test_its_figures_are_those_of_a_model_that_learned_something() -> None:
    metrics = load_bundle(bundled_files()).manifest.metrics
    assert metrics["test"]["accuracy"] > 0.9
    assert metrics["test"]["expected_calibration_error"] < 0.05


def test_a_folder_without_a_listed_file_is_refused(tmp_path: Path) -> None:
    for name, data in bundled_files().items():
        (tmp_path / name).write_bytes(data)
    assert read_bundle_folder(tmp_path) == bundled_files()
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ObjectMissingError, match=r"model\.onnx"):
        read_bundle_folder(tmp_path)
