from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.planes import ReleaseStatus
from fetalmlops.domain.errors import ObjectMissingError
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.platform.inference.bundles import bundled_files, read_bundle_folder

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
    for words in ("synthetic phantoms only", "Worth nothing on patients", "demonstration"):
        assert words in card
    for figures in bundle.manifest.metrics.values():
        for name, value in figures.items():
            assert f"| {name} | {value:.4g} |" in card


def test_its_figures_are_those_of_a_model_that_learned_something() -> None:
    metrics = load_bundle(bundled_files()).manifest.metrics
    assert metrics["test (unseen scanners)"]["accuracy"] > 0.9
    assert metrics["test (unseen scanners)"]["expected_calibration_error"] < 0.05


def test_a_folder_without_a_listed_file_is_refused(tmp_path: Path) -> None:
    for name, data in bundled_files().items():
        (tmp_path / name).write_bytes(data)
    assert read_bundle_folder(tmp_path) == bundled_files()
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ObjectMissingError, match=r"model\.onnx"):
        read_bundle_folder(tmp_path)
