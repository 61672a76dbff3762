from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.models.bundle import seal_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME, PipelineEntry, decode_manifest
from fetalmlops.domain.models.picture import top_regions
from fetalmlops.domain.simulation.rendering import render
from fetalmlops.domain.simulation.scanners import SCANNERS
from fetalmlops.platform.inference.bundles import PACKAGED, bundled_files, list_bundles, save_bundle

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = render(Plane.BRAIN, SCANNERS[0], np.random.default_rng(3), brain_plane=BrainPlane.TRANS_THALAMIC).pixels
    cv2.imwrite(str(tmp_path / "brain.png"), pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return tmp_path / "brain.png"


def copied(folder: Path) -> Path:
    shutil.copytree(str(resources.files("fetalmlops") / "bundles" / "demonstration"), folder)
    return folder


def invoke(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_packaged_bundle_is_listed_shown_and_verified() -> None:
    assert "demonstration" in invoke("bundle", "list")[1]
    assert "128 x 160" in invoke("bundle", "show", "demonstration")[1]
    code, said = invoke("bundle", "verify", "demonstration")
    assert (code, "is whole" in said, "reproduces" in said) == (0, True, True)


def test_show_as_json_is_the_sealed_manifest() -> None:
    code, said = invoke("bundle", "show", "demonstration", "--json")
    assert (code, said.encode()) == (0, bundled_files()[MANIFEST_NAME])


def test_the_card_is_written_to_a_file(tmp_path: Path) -> None:
    assert invoke("bundle", "card", "demonstration", "--out", tmp_path / "card.md")[0] == 0
    assert "## 6. Post-market surveillance" in (tmp_path / "card.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "ood.safetensors", "reference.safetensors"])
def test_a_corrupted_file_is_named(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path / "copy")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    code, said = invoke("bundle", "verify", folder)
    assert code == 1
    assert name in said


def test_a_broken_bundle_of_the_state_folder_is_listed_as_broken(home: Path) -> None:
    folder = copied(home / "bundles" / "mine-1.0.0")
    (folder / "model.onnx").write_bytes(b"")
    code, said = invoke("bundle", "list")
    assert code == 0
    assert "broken" in said


def test_a_bundle_of_another_normalisation_is_refused(tmp_path: Path, image: Path) -> None:
    files = bundled_files()
    other = msgspec.structs.replace(
        decode_manifest(files.pop(MANIFEST_NAME)),
        name="other",
        version="1.0.0",
        pipeline=PipelineEntry(name="plain", digest="f" * 64),
    )
    save_bundle(tmp_path, seal_bundle(other, files))
    for command in (
        ["bundle", "verify", "other-1.0.0"],
        ["explain", image, "--out", tmp_path / "x.png", "--bundle", "other-1.0.0"],
    ):
        code, said = invoke(*command)
        assert code == 1
        assert "normalisation" in said
    assert not (tmp_path / "x.png").exists()


def test_a_network_that_is_another_than_its_reference_is_refused(tmp_path: Path) -> None:
    files = bundled_files()
    manifest = decode_manifest(files.pop(MANIFEST_NAME))
    hot = msgspec.structs.replace(manifest.calibration, temperature=5.0)
    changed = msgspec.structs.replace(manifest, name="hot", version="1.0.0", calibration=hot)
    save_bundle(tmp_path, seal_bundle(changed, files))
    code, said = invoke("bundle", "verify", "hot-1.0.0")
    assert code == 1
    assert "reference" in said


def test_a_name_and_version_is_never_written_twice(tmp_path: Path) -> None:
    save_bundle(tmp_path, bundled_files())
    with pytest.raises(ValueError, match="not taken"):
        save_bundle(tmp_path, bundled_files())
    version = decode_manifest(bundled_files()[MANIFEST_NAME]).version
    assert list_bundles(tmp_path) == [*PACKAGED, f"demonstration-{version}"]


def test_an_explanation_is_a_picture_of_the_frame_twice_with_words(tmp_path: Path, image: Path) -> None:
    code, said = invoke("explain", image, "--out", tmp_path / "why.png")
    assert code == 0, said
    assert "brain" in said
    picture = cv2.imread(str(tmp_path / "why.png"))
    assert picture.shape[1] > 2 * 512
    left, right = picture[100:300, 20:500], picture[100:300, 544:1024]
    # Only the map has colours.
    assert np.ptp(left.astype(int), axis=2).max() == 0
    assert np.ptp(right.astype(int), axis=2).max() > 40


def test_regions_are_ranked_by_their_share() -> None:
    grid = np.zeros((10, 10), np.float32)
    grid[1:3, 1:3], grid[7, 8], grid[5, 5] = 1.0, 0.9, -3.0
    first, second = top_regions(grid)
    assert (first.row, first.column) == (0.2, 0.2)
    assert first.share + second.share == pytest.approx(1)
    assert first.share > second.share
    assert top_regions(-np.ones((3, 3), np.float32)) == ()
