"""A network in int8: close to f32, small, the same each time; needs the train extra."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
onnx = pytest.importorskip("onnx", reason="training needs the train extra")
pytest.importorskip("timm", reason="training needs the train extra")

import cv2  # noqa: E402
import openvino  # noqa: E402

from fetalmlops.domain.errors import ContractError  # noqa: E402
from fetalmlops.domain.models.engine import OUTPUT_NAMES  # noqa: E402
from fetalmlops.training.export import export_onnx  # noqa: E402
from fetalmlops.training.networks import RESIDUAL, SONONET, make_network  # noqa: E402
from fetalmlops.training.quantising import quantise  # noqa: E402
from fetalmlops.training.recipe import NetworkEntry  # noqa: E402

pytestmark = pytest.mark.torch

ROWS, COLUMNS = 64, 96


def frames(count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(count, ROWS, COLUMNS)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), 3) for each in noise])
    return smooth / smooth.std()


def network(name: str) -> bytes:
    torch.manual_seed(0)
    made = make_network(NetworkEntry(name=name, widths=(8, 16, 24))).train()
    with torch.no_grad():
        for _ in range(20):
            made(torch.from_numpy(frames(8)[:, None]))
    return export_onnx(made.eval(), ROWS, COLUMNS)


def served(network: bytes, batch: np.ndarray) -> dict[str, np.ndarray]:
    core = openvino.Core()
    results = core.compile_model(core.read_model(network), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(batch[:, None])
    return {name: results[name] for name in OUTPUT_NAMES}


@pytest.mark.parametrize("name", [RESIDUAL, SONONET, "mobilenetv3_small_100"])
def test_it_says_nearly_the_same_and_is_smaller(name: str) -> None:
    full = network(name)
    rounded = quantise(full, [frames(4), frames(4, seed=1)])
    assert quantise(full, [frames(4), frames(4, seed=1)]) == rounded
    assert len(rounded) < 0.6 * len(full)
    expected, found = served(full, frames(6, seed=2)), served(rounded, frames(6, seed=2))
    for output in ("logits", "embedding", "maps"):
        error = np.linalg.norm(found[output] - expected[output]) / np.linalg.norm(expected[output])
        # Random weights say little, of which rounding takes more than of what was learned.
        assert 0 < error < 0.3, output


def test_the_first_convolution_and_the_heads_stay_as_they_were() -> None:
    full, rounded = (
        onnx.load_from_string(each) for each in (network(SONONET), quantise(network(SONONET), [frames(2)]))
    )
    before, after = ([node for node in each.graph.node if node.op_type == "Conv"] for each in (full, rounded))
    assert [node.output[0] for node in before] == [node.output[0] for node in after]
    integers = [node.input[0].endswith("_rounded") for node in after]
    assert integers == [False, *[True] * (len(after) - 3), False, False]
    kinds = {each.name: each.data_type for each in rounded.graph.initializer}
    assert sum(kind == onnx.TensorProto.INT8 for kind in kinds.values()) == 2 * sum(integers)


def test_a_network_with_nothing_to_quantise_is_refused() -> None:
    node = onnx.helper.make_node("Relu", ["frames"], ["logits"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [None, 1, 8, 8]) for name in ("frames", "logits")]
    graph = onnx.helper.make_graph([node], "none", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ContractError, match="serve this network in f32"):
        quantise(model.SerializeToString(), [np.zeros((1, 8, 8), np.float32)])
