"""What ``fetalmlops train`` starts from, and writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fetalmlops.cli.train import need_training, read_start, write_bundle
from fetalmlops.domain.errors import FetalMLOpsError, SettingsError
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.platform.inference.bundles import bundled_files, read_bundle_folder
from fetalmlops.platform.learning.weights import add_weights
from fetalmlops.platform.settings import Settings


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else object())
    with pytest.raises(SettingsError, match=r"got no timm; install it: .*\[train\]"):
        need_training()


def test_a_bundle_is_written_whole(tmp_path: Path) -> None:
    files = bundled_files()
    write_bundle(tmp_path / "bundle", files)
    assert load_bundle(read_bundle_folder(tmp_path / "bundle")).files == load_bundle(files).files
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == set(files)


@pytest.mark.torch
def test_training_starts_from_a_bundle_by_folder_or_name_or_from_added_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the train extra")
    pytest.importorskip("mlflow", reason="training needs the train extra")
    settings, files = Settings(home=tmp_path), bundled_files()
    manifest = load_bundle(files).manifest
    write_bundle(tmp_path / "bundles" / "earlier-1.0.0", files)
    weights = files[manifest.weights]
    add_weights(settings, weights, name="kept", licence="Apache-2.0", source="this test", original=weights)
    starts = [read_start(settings, name) for name in ("earlier-1.0.0", str(tmp_path / "bundles/earlier-1.0.0"), "kept")]
    assert [start.data for start in starts if start] == [weights] * 3
    assert [start.source.licence for start in starts if start] == ["Apache-2.0"] * 3
    assert read_start(settings, "") is None


@pytest.mark.torch
@pytest.mark.parametrize("fault", ["absent", "corrupt"])
def test_weights_that_are_not_there_or_not_what_they_were_are_refused(tmp_path: Path, fault: str) -> None:
    pytest.importorskip("torch", reason="training needs the train extra")
    pytest.importorskip("mlflow", reason="training needs the train extra")
    if fault == "corrupt":
        files = bundled_files()
        name = load_bundle(files).manifest.weights
        write_bundle(tmp_path / "bundles" / "one", {**files, name: files[name][:-1] + b"!"})
    with pytest.raises(FetalMLOpsError, match="Expected"):
        read_start(Settings(home=tmp_path), "one")
