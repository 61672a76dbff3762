"""A bundle's further precisions, by the command; needs the train extra."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("onnx", reason="training needs the train extra")

from fetalmlops.cli.main import app
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.openvino import OpenVinoEngine, supports_bf16
from fetalmlops.platform.inference.bundles import open_bundle, packaged_bundle, read_bundle_folder
from fetalmlops.platform.learning.intended_use import FILE, packaged_intended_use
from fetalmlops.training.precisions import INT8_NETWORK

pytestmark = pytest.mark.torch

EXACT = {Precision.F32, *([Precision.BF16] if supports_bf16() else [])}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))
    return tmp_path


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def quantised(home: Path, phantoms: Path, **limits: float) -> str:
    text = packaged_intended_use().decode()
    for name, value in limits.items():
        before, _, rest = text.partition(f"\n{name} = ")
        text = f"{before}\n{name} = {value}\n{rest.partition(chr(10))[2]}"
    (home / FILE).write_text(text)
    code, said = invoke("bundle", "quantise", "demonstration", "--data", phantoms, "--version", "2.1.0")
    assert code == 0, said
    return said


def test_precisions_that_pass_are_sealed_shown_verified_and_run(home: Path, phantoms: Path) -> None:
    # Two patients can show no more.
    said = quantised(home, phantoms, agreement_bound=0.1, plane_recall_loss=0.5, macro_f1_loss=0.2, agreement=0.8)
    assert "int8: passed" in said
    bundle = open_bundle(home, "demonstration-2.1.0")
    manifest = bundle.manifest
    assert set(manifest.variants) == EXACT | {Precision.INT8}
    assert manifest.variants[Precision.INT8].file == INT8_NETWORK
    assert bundle.network(Precision.F32) == load_bundle(packaged_bundle("demonstration")).network(Precision.F32)
    gate = manifest.evidence.gates["int8"]
    assert (gate.images, gate.patients) == (15, 2)
    assert (
        f"| int8 | {manifest.variants[Precision.INT8].tolerance:g} | {gate.agreement:.4g}"
        in bundle.files["card.md"].decode()
    )
    assert 0 < check_engine(bundle, OpenVinoEngine(bundle, precision=Precision.INT8)) <= 0.25
    assert "int8 (same plane as f32 in" in invoke("bundle", "show", "demonstration-2.1.0")[1]
    code, said = invoke("bundle", "verify", "demonstration-2.1.0")
    assert code == 0
    assert all(f"{precision}: reproduces its reference outputs" in said for precision in manifest.variants)
    file = home / "bundles" / "demonstration-2.1.0" / INT8_NETWORK
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    code, said = invoke("bundle", "verify", "demonstration-2.1.0")
    assert (code, INT8_NETWORK in said) == (1, True)


def test_precisions_that_fail_stay_out_and_their_figures_stay_in(home: Path, phantoms: Path) -> None:
    said = quantised(home, phantoms)
    assert "int8: failed precision.agreement_bound" in said
    files = read_bundle_folder(home / "bundles" / "demonstration-2.1.0")
    bundle = load_bundle(files)
    assert set(bundle.manifest.variants) == {Precision.F32}
    assert INT8_NETWORK not in files
    assert not bundle.manifest.evidence.gates["int8"].passed
    assert "| int8 | not in this bundle |" in files["card.md"].decode()
    assert "no int8 (failed precision.agreement_bound" in invoke("bundle", "show", "demonstration-2.1.0")[1]
    with pytest.raises(
        ContractError, match=r"this bundle has \(f32\), got int8, which missed precision.agreement_bound"
    ):
        OpenVinoEngine(bundle, precision=Precision.INT8)
