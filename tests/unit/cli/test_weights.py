"""``fetalmlops weights``: safetensors as they are, torch files only where they need no code to be read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors import deserialize
from safetensors import numpy as safetensors
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.errors import ContractError, DigestMismatchError, SettingsError
from fetalmlops.platform.learning.weights import list_weights, open_weights
from fetalmlops.platform.settings import Settings

TENSORS = {"conv.weight": np.ones((4, 1, 3, 3), np.float32), "steps": np.array(7, np.int64)}
ABOUT = ("--licence", "Apache-2.0", "--source", "made by this test")
REAL = Path(__file__).parents[4] / "shared/weights/SonoNet16.pth"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return Settings(home=tmp_path / "home")


def _add(path: Path, *more: str, name: str = "mine", code: int = 0) -> str:
    result = CliRunner().invoke(app, ["weights", "add", str(path), "--name", name, *(more or ABOUT)])
    assert result.exit_code == code, result.output
    return result.output


def test_safetensors_are_kept_as_they_are_and_listed(tmp_path: Path, settings: Settings) -> None:
    data = safetensors.save(TENSORS)
    (tmp_path / "file.bin").write_bytes(data)

    assert "2 tensors, 37 numbers, Apache-2.0" in _add(tmp_path / "file.bin")

    record, kept = open_weights(settings, "mine")
    assert kept == data
    assert record.tensors["conv.weight"].shape == [4, 1, 3, 3]
    assert record.tensors["steps"].type == "I64"
    assert list_weights(settings) == [record]
    shown = CliRunner().invoke(app, ["weights", "list", "--shapes"]).stdout
    assert "made by this test" in shown
    assert "conv.weight  F32 [4, 1, 3, 3]" in shown


def test_changed_or_unknown_weights_are_refused(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_bytes(safetensors.save(TENSORS))
    _add(tmp_path / "file")
    place = tmp_path / "home/weights/mine/weights.safetensors"
    place.write_bytes(place.read_bytes()[:-1] + b"!")
    with pytest.raises(DigestMismatchError):
        open_weights(settings, "mine")
    with pytest.raises(SettingsError, match="those added: mine"):
        open_weights(settings, "other")


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("../up", ABOUT),
        ("Upper", ABOUT),
        ("a", ("--licence", "", "--source", "x")),
        ("a", ("--licence", "x", "--source", "")),
    ],
)
def test_a_name_a_licence_and_a_source_are_needed(tmp_path: Path, name: str, about: tuple[str, ...]) -> None:
    (tmp_path / "file").write_bytes(safetensors.save(TENSORS))
    assert "Expected a name, a licence and a source" in _add(tmp_path / "file", *about, name=name, code=1)
    assert not (tmp_path / "home/weights").exists()


def test_empty_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(safetensors.save({}))
    assert "got none" in _add(tmp_path / "file", code=1)


@pytest.mark.torch
@pytest.mark.parametrize("wrap", ["", "state_dict", "model"])
def test_a_state_dict_becomes_safetensors(tmp_path: Path, settings: Settings, wrap: str) -> None:
    torch = pytest.importorskip("torch")
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"module.a": shared.T, "module.b": shared}
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "file.pth")
    _add(tmp_path / "file.pth")
    record, data = open_weights(settings, "mine")
    assert {name: entry.shape for name, entry in record.tensors.items()} == {"a": [3, 2], "b": [2, 3]}
    np.testing.assert_array_equal(safetensors.load(data)["a"], shared.T.numpy())


class _Attack:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.place,)


@pytest.mark.torch
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    place = tmp_path / "ran"
    torch.save({"a": _Attack(place)}, tmp_path / "attack.pth")
    (tmp_path / "attack.pkl").write_bytes(pickle.dumps(_Attack(place), protocol=2))
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)))
    for name in ("attack.pth", "attack.pkl", "noise.pth"):
        assert "needs no code to be read" in _add(tmp_path / name, code=1)
    assert "got none" in _add(tmp_path / "empty.pth", code=1)
    assert not place.exists()


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_torch_file_is_refused_whatever_is_damaged(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from fetalmlops.training.weights import convert_state_dict

    place = tmp_path / "file.pth"
    torch.save({"a": torch.ones(3, 4)}, place, _use_new_zipfile_serialization=False)
    whole = place.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        changed = bytearray(whole)
        for index in rng.integers(0, len(changed), 2).tolist():
            changed[index] = int(rng.integers(256))
        place.write_bytes(changed)
        try:
            convert_state_dict(place)
        except ContractError:
            refused += 1
    assert refused > 100


@pytest.mark.torch
@pytest.mark.skipif(not REAL.is_file(), reason="real weights are not at hand")
def test_real_weights_are_converted(settings: Settings) -> None:
    pytest.importorskip("torch")
    _add(REAL, name="sononet-16")
    record, data = open_weights(settings, "sononet-16")
    assert 900_000 < record.parameters < 960_000
    assert {name for name, _ in deserialize(data)} == set(record.tensors)
    assert (
        json.loads((settings.home / "weights/sononet-16/weights.json").read_text())["original_sha256"] != record.sha256
    )
