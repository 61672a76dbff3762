"""Networks, their export, and the weights they start from; needs the train extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("onnx", reason="training needs the train extra")
pytest.importorskip("timm", reason="training needs the train extra")

from safetensors.torch import save  # noqa: E402

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES  # noqa: E402
from fetalmlops.domain.errors import ContractError, SettingsError  # noqa: E402
from fetalmlops.domain.models.engine import OUTPUT_NAMES, EngineOutput  # noqa: E402
from fetalmlops.training.export import export_onnx, export_weights, load_weights  # noqa: E402
from fetalmlops.training.fitting import run_frames  # noqa: E402
from fetalmlops.training.networks import RESIDUAL, SONONET, make_network  # noqa: E402
from fetalmlops.training.networks.backbones import BACKBONES  # noqa: E402
from fetalmlops.training.networks.stages import RATE_SHARE, frozen_stages, parameter_groups  # noqa: E402
from fetalmlops.training.recipe import Fitting, NetworkEntry  # noqa: E402
from fetalmlops.training.sononet.network import SonoNetPlanes, load_trunk  # noqa: E402
from fetalmlops.training.starting import start_from  # noqa: E402
from fetalmlops.training.weights import convert_state_dict  # noqa: E402

pytestmark = pytest.mark.torch

ROWS, COLUMNS = 64, 96
REAL = Path(__file__).parents[4] / "shared/weights/SonoNet16.pth"


def network(name: str = RESIDUAL, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    made = make_network(NetworkEntry(name=name, widths=(8, 16, 24)))
    made.train()
    with torch.no_grad():
        for _ in range(2):
            made(3 * torch.randn(4, 1, ROWS, COLUMNS) + 1)
    return made.eval()


def frames(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, ROWS, COLUMNS)).astype(np.float32)


def served(onnx: bytes, batch: np.ndarray) -> EngineOutput:
    import openvino

    core = openvino.Core()
    results = core.compile_model(core.read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(batch[:, None])
    return EngineOutput(*(results[name] for name in OUTPUT_NAMES))


@pytest.mark.parametrize("name", [RESIDUAL, SONONET, *BACKBONES])
def test_the_exported_graph_says_what_the_network_says(name: str) -> None:
    made, batch = network(name), frames()
    expected, onnx = run_frames(made, batch), export_onnx(made, ROWS, COLUMNS)
    for found in (served(onnx, batch), served(onnx, batch[:1])):
        for output in OUTPUT_NAMES:
            like = getattr(expected, output)[: len(found)]
            np.testing.assert_allclose(getattr(found, output), like, atol=1e-3 * max(1, np.abs(like).max()), rtol=1e-3)
    assert expected.logits.shape == (3, len(PLANES))
    assert expected.brain_logits.shape == (3, len(BRAIN_PLANES))
    assert expected.features.shape[1] > expected.embedding.shape[1]
    assert (expected.features >= 0).all()
    np.testing.assert_allclose(expected.maps.mean(axis=(2, 3)), expected.logits, atol=1e-4)


def test_the_export_is_reproducible_and_weights_survive_it() -> None:
    made, other = network(), network(seed=1)
    assert (
        export_onnx(made, ROWS, COLUMNS) == export_onnx(network(), ROWS, COLUMNS) != export_onnx(other, ROWS, COLUMNS)
    )
    load_weights(other, export_weights(made))
    assert export_onnx(other, ROWS, COLUMNS) == export_onnx(made, ROWS, COLUMNS)


def test_the_traced_export_is_reproducible() -> None:
    name = "mobilenetv3_small_100"
    assert export_onnx(network(name), ROWS, COLUMNS) == export_onnx(network(name), ROWS, COLUMNS)


def test_weights_of_timm_for_colour_give_on_grey_what_they_gave_on_the_same_image_in_colour() -> None:
    import timm

    torch.manual_seed(0)
    colour = timm.create_model("mobilenetv3_small_100", pretrained=False).eval()
    made = network("mobilenetv3_small_100")
    loaded, of = start_from(made, save({name: tensor.contiguous() for name, tensor in colour.state_dict().items()}))
    assert loaded == of - 4
    grey = torch.randn(2, 1, ROWS, COLUMNS)
    with torch.inference_mode():
        expected = colour.forward_features(grey.expand(-1, 3, -1, -1))
        found = made.eval().trunk(grey)[-1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_weights_of_a_densely_connected_network_find_their_places() -> None:
    import timm

    colour = timm.create_model("densenet169", pretrained=False)
    loaded, of = start_from(
        network("densenet169"), save({name: tensor.contiguous() for name, tensor in colour.state_dict().items()})
    )
    assert loaded == of - 4


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ContractError, match="of this network"):
        start_from(network(), export_weights(network("mobilenetv3_small_100")))
    with pytest.raises(ContractError, match="safetensors"):
        start_from(network(), b"PK nothing of the kind")


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trunk's tensors by the names that the published file gives them, with its own output layer."""
    trunk = {name.removeprefix("trunk."): tensor for name, tensor in state.items() if name.startswith("trunk.")}
    norm = {f"adaption.4.{name}": torch.ones(14) for name in ("weight", "bias", "running_mean", "running_var")}
    return trunk | norm | {"adaption.3.weight": torch.zeros(14, 64, 1, 1)}


def test_training_starts_from_the_published_sononet_by_its_names() -> None:
    source = network(SONONET)
    state = published(source.state_dict())
    made, folded = network(SONONET, seed=1), SonoNetPlanes().eval()
    loaded, of = start_from(made, save({name: tensor.contiguous() for name, tensor in state.items()}))
    load_trunk(folded, state)
    assert loaded == of - 4
    expected = run_frames(folded, frames())
    # The two ways of reading the same file give the same trunk.
    np.testing.assert_allclose(run_frames(made, frames()).embedding, expected.embedding, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(run_frames(made, frames()).features, expected.features, rtol=1e-3, atol=1e-4)


def test_the_published_file_itself() -> None:
    if not REAL.exists():
        pytest.skip("the published SonoNet16.pth is not beside this repository")
    made, folded = network(SONONET), SonoNetPlanes().eval()
    loaded, of = start_from(made, convert_state_dict(REAL))
    load_trunk(folded, torch.load(REAL, map_location="cpu", weights_only=True))
    assert loaded == of - 4
    expected = run_frames(folded, frames()).embedding
    np.testing.assert_allclose(run_frames(made, frames()).embedding, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [RESIDUAL, SONONET, *BACKBONES])
def test_frozen_stages_stay_and_rates_fall_towards_the_input(name: str) -> None:
    made = network(name)
    how = Fitting(freeze=2, stage_rate=0.5)
    groups = parameter_groups(made, how)
    fitted = {id(parameter) for group in groups for parameter in group["params"]}
    frozen = {id(parameter) for stage in frozen_stages(made, how) for parameter in stage.parameters()}
    assert frozen
    assert fitted == {id(parameter) for parameter in made.parameters()} - frozen
    shares = [group[RATE_SHARE] for group in groups]
    assert max(shares) == 1
    assert min(shares) == 0.5 ** (len(made.stages) - 3)
    with pytest.raises(SettingsError, match="the stages of this trunk"):
        parameter_groups(made, Fitting(freeze=len(made.stages) + 1))


def test_a_network_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="densenet169"):
        make_network(NetworkEntry(name="resnet18"))
