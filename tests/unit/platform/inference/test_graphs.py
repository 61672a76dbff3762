"""Foreign networks of timm, wrapped: the same answers as torch gives, and nothing that the network does not say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytest.importorskip("onnx")

from safetensors.torch import save  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from fetalmlops.cli.main import app  # noqa: E402
from fetalmlops.domain.contracts.planes import PLANES  # noqa: E402
from fetalmlops.domain.errors import ContractError, SettingsError  # noqa: E402
from fetalmlops.domain.models.bundle import load_bundle  # noqa: E402
from fetalmlops.domain.models.manifest import Fit, PipelineEntry  # noqa: E402
from fetalmlops.platform.engines.openvino import OpenVinoEngine  # noqa: E402
from fetalmlops.platform.inference.bundles import bundled_files, open_bundle  # noqa: E402
from fetalmlops.platform.inference.graphs import change_head, read_labels, wrap_classifier  # noqa: E402
from fetalmlops.platform.inference.local import LocalModel  # noqa: E402
from fetalmlops.platform.learning.fitting import foreign_files  # noqa: E402
from fetalmlops.training.foreign import export_timm  # noqa: E402
from support.site import write_site  # noqa: E402

pytestmark = pytest.mark.torch

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ONE_TO_ONE = ["brain", "thorax", "abdomen", "femur", "cervix", "other"]


def network(architecture: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(architecture, pretrained=False, num_classes=6).eval()


def engine_of(data: bytes, labels: list[str]) -> tuple[OpenVinoEngine, tuple[str, ...]]:
    wrapped = wrap_classifier(data, labels, MEAN, DEVIATION)
    entry = PipelineEntry(name="plain", digest="0" * 64)
    files = foreign_files(
        wrapped, name="x", version="1.0.0", licence="x", pipeline=entry, fit=Fit.PAD, description="a test's"
    )
    return OpenVinoEngine(load_bundle(files)), wrapped.outputs


def answers(model: torch.nn.Module, frames: np.ndarray) -> np.ndarray:
    colours = np.repeat(frames[:, None], 3, axis=1)
    standard = (colours - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(DEVIATION, (1, 3, 1, 1))
    with torch.no_grad():
        return model(torch.from_numpy(standard.astype(np.float32))).numpy()


@pytest.fixture(scope="module")
def resnet() -> tuple[torch.nn.Module, bytes]:
    model = network("resnet10t")
    return model, export_timm("resnet10t", save(model.state_dict()), 6, 64)


FRAMES = np.random.default_rng(0).random((3, 64, 64)).astype(np.float32)


def test_the_wrapped_network_answers_as_torch_does(resnet: tuple[torch.nn.Module, bytes]) -> None:
    model, data = resnet
    engine, outputs = engine_of(data, ONE_TO_ONE)
    output = engine.infer(FRAMES)
    expected = answers(model, FRAMES)[:, [ONE_TO_ONE.index(plane) for plane in PLANES]]
    np.testing.assert_allclose(output.logits, expected, atol=1e-3)
    assert outputs == ("logits", "embedding", "features", "maps")
    np.testing.assert_allclose(output.maps.mean(axis=(2, 3)), output.logits, atol=1e-3)
    assert output.brain_logits.shape == (3, 0)


def test_classes_of_one_plane_share_its_probability_and_absent_planes_get_none(
    resnet: tuple[torch.nn.Module, bytes],
) -> None:
    model, data = resnet
    engine, outputs = engine_of(data, ["brain", "brain", "abdomen", "femur", "cervix", "-"])
    logits = engine.infer(FRAMES).logits
    expected = answers(model, FRAMES)
    np.testing.assert_allclose(logits[:, 1], np.logaddexp(expected[:, 0], expected[:, 1]), atol=1e-3)
    assert (logits[:, [PLANES.index("other"), PLANES.index("thorax")]] < -1000).all()
    assert "maps" not in outputs


def test_a_layer_between_pooling_and_head_leaves_no_maps() -> None:
    model = network("mobilenetv3_small_050")
    _, outputs = engine_of(export_timm("mobilenetv3_small_050", save(model.state_dict()), 6, 64), ONE_TO_ONE)
    assert outputs == ("logits", "embedding", "features")


def test_what_is_no_such_network_is_refused(resnet: tuple[torch.nn.Module, bytes]) -> None:
    with pytest.raises(ContractError, match="ONNX"):
        wrap_classifier(b"nothing", ONE_TO_ONE, MEAN, DEVIATION)
    fixed = io.BytesIO()
    torch.onnx.export(resnet[0], (torch.zeros(1, 3, 64, 64),), fixed, dynamo=False, opset_version=17)
    with pytest.raises(ContractError, match="images free"):
        wrap_classifier(fixed.getvalue(), ONE_TO_ONE, MEAN, DEVIATION)
    with pytest.raises(SettingsError, match="--labels"):
        read_labels("brain, nose")
    with pytest.raises(SettingsError, match="timm"):
        export_timm("resnet10t", save({"a": torch.zeros(1)}), 6, 64)


def test_a_changed_head_adds_its_function_to_logits_and_maps() -> None:
    files = bundled_files()
    bundle = load_bundle(files)
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(0, 0.1, (80, 6)), rng.normal(0, 0.1, 6)
    changed, maps = change_head(files["model.onnx"], weight, bias)
    before = OpenVinoEngine(bundle)
    after = OpenVinoEngine(replace_network(bundle, changed))
    batch = rng.normal(0, 1, (2, 128, 160)).astype(np.float32)
    one, other = before.infer(batch), after.infer(batch)
    assert maps
    np.testing.assert_allclose(other.logits, one.logits + one.embedding @ weight + bias, atol=1e-3)
    np.testing.assert_allclose(other.maps.mean(axis=(2, 3)), other.logits, atol=1e-3)


def replace_network(bundle: object, network: bytes) -> object:
    from dataclasses import replace

    return replace(bundle, files={**bundle.files, "model.onnx": network})


def test_an_import_becomes_a_bundle_that_serves_and_says_what_it_lacks(
    tmp_path: Path, resnet: tuple[torch.nn.Module, bytes]
) -> None:
    write_site(tmp_path, 120)
    (tmp_path / "model.onnx").write_bytes(resnet[1])
    arguments = [
        "--home",
        str(tmp_path),
        "bundle",
        "import",
        str(tmp_path / "model.onnx"),
        "--labels",
        ",".join(ONE_TO_ONE),
    ]
    done = CliRunner().invoke(app, [*arguments, "--calibrate", "site", "--name", "foreign", "--risk", "0.1"])
    assert done.exit_code == 0, done.output
    bundle = open_bundle(tmp_path, "foreign-1.0.0")
    assert bundle.manifest.lacking == ["brain_planes"]
    assert bundle.manifest.release_status == "candidate"
    assert set(bundle.manifest.evidence.false_alarms) == {"site alpha", "site beta"}
    assert "Not available in its results: brain_planes" in bundle.files["card.md"].decode()
    judged = LocalModel(bundle).judge_file(tmp_path / "images-site" / "1.png")
    assert judged.result.brain_plane is None
    assert judged.result.ood_score is not None
    # A network with random weights is right too seldom to be accepted.
    assert judged.result.verdict.decision != "accept"
