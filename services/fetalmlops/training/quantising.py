"""A network in int8: weights and inputs of its convolutions as 8-bit integers, the rest as it was.

Post-training static quantisation (Nagel et al., arXiv:2106.08295), written into the ONNX as pairs of QuantizeLinear and
DequantizeLinear, of which OpenVINO makes integer convolutions. Weights have a scale per output channel; an input has one
scale, from its extremes over all images. Three kinds of layers stay as they were: the first convolution, whose input has
the longest tails, the heads, whose errors are the logits' own, and all that is no convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper
from openvino.properties import hint, inference_num_threads

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.engine import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["quantise"]

_LARGEST_WEIGHT: Final = 127
_LARGEST_INPUT: Final = 255
_LEAST: Final = 1e-8
_WITH_WEIGHTS: Final = frozenset({"Conv", "Gemm", "MatMul"})


def quantise(network: bytes, batches: Sequence[NDArray[np.float32]]) -> bytes:
    """Return a network in int8; the same network and batches give the same bytes on the same machine.

    Parameters
    ----------
    network
        The ONNX in f32.
    batches
        Prepared frames to calibrate by, of [frames, rows, columns] each: of training images, never of test images.

    Raises
    ------
    ContractError
        If no convolution with constant weights stands between the first one and the heads.
    """
    model = onnx.load_from_string(network)
    chosen = _convolutions(model.graph)
    if not chosen:
        msg = "Expected convolutions with constant weights before the heads, got none; serve this network in f32"
        raise ContractError(msg, reason="precision")
    ranges = _ranges(model, [node.input[0] for node in chosen], batches)
    written, names = _Writing(model.graph), {node.output[0] for node in chosen}
    for node in model.graph.node:
        if node.output[0] in names:
            written.convolution(node, ranges[node.input[0]])
        else:
            written.nodes.append(node)
    return written.model(model)


def _convolutions(graph: Any) -> list[Any]:
    """Return those with constant weights that another layer with weights follows, without the first."""
    constants, leading, found = {each.name for each in graph.initializer}, set[str](), []
    for node in reversed(graph.node):
        followed = not leading.isdisjoint(node.output)
        if followed or node.op_type in _WITH_WEIGHTS:
            leading.update(node.input)
        if node.op_type == "Conv":
            found.append(node if followed and constants.issuperset(node.input[1:]) else None)
    return [node for node in found[-2::-1] if node is not None]


def _ranges(
    model: Any, sources: Sequence[str], batches: Sequence[NDArray[np.float32]]
) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value of tensors over all images, by name."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = list(dict.fromkeys(sources))
    for name in names:
        for kind in ("ReduceMin", "ReduceMax"):
            output = f"{name}_{kind}"
            watched.graph.node.append(helper.make_node(kind, [name], [output], axes=[1, 2, 3], keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None]))
    core = openvino.Core()
    options = {hint.inference_precision(): openvino.Type.f32, inference_num_threads(): 1}
    request = core.compile_model(core.read_model(watched.SerializeToString()), "CPU", options).create_infer_request()
    extremes = []
    for batch in batches:
        results = request.infer({INPUT_NAME: batch[:, None]})
        extremes.append([(results[f"{name}_ReduceMin"].min(), results[f"{name}_ReduceMax"].max()) for name in names])
    each = np.array(extremes)
    return {name: (float(each[:, at, 0].min()), float(each[:, at, 1].max())) for at, name in enumerate(names)}


class _Writing:
    """Nodes and constants of the graph in int8."""

    def __init__(self, graph: Any) -> None:
        self._values = {each.name: each for each in graph.initializer}
        self._constants = [*graph.initializer]
        self._paired: set[str] = set()
        self.nodes: list[Any] = []

    def convolution(self, node: Any, bounds: tuple[float, float]) -> None:
        """Write a convolution in 8 bits, whose input lies within `bounds`."""
        name, weight = node.output[0], numpy_helper.to_array(self._values[node.input[1]])
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.input[0], new.input[1] = self._source(node.input[0], bounds), self._weight(name, weight)
        self.nodes.append(new)

    def model(self, like: Any) -> bytes:
        """Return the model, without constants that nothing reads."""
        new = onnx.ModelProto()
        new.CopyFrom(like)
        read = {name for node in self.nodes for name in node.input}
        del new.graph.node[:], new.graph.initializer[:], new.graph.value_info[:]
        new.graph.node.extend(self.nodes)
        new.graph.initializer.extend(each for each in self._constants if each.name in read)
        onnx.checker.check_model(new, full_check=True)
        return bytes(new.SerializeToString(deterministic=True))

    def _source(self, name: str, bounds: tuple[float, float]) -> str:
        if name not in self._paired:
            self._paired.add(name)
            # 0 is a level of its own, so that a border of zeros stays one.
            low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
            scale = max(high - low, _LEAST) / _LARGEST_INPUT
            how = [
                self._constant(f"{name}_scale", np.float32(scale)),
                self._constant(f"{name}_zero", np.uint8(round(-low / scale))),
            ]
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *how], [f"{name}_levels"]))
            self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_levels", *how], [f"{name}_rounded"]))
        return f"{name}_rounded"

    def _weight(self, name: str, weight: NDArray[np.float32]) -> str:
        scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), _LEAST) / _LARGEST_WEIGHT
        levels = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        inputs = [
            self._constant(f"{name}_weight", levels),
            self._constant(f"{name}_weight_scale", scale.astype(np.float32)),
            self._constant(f"{name}_weight_zero", np.zeros(len(weight), np.int8)),
        ]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_weight_rounded"], axis=0))
        return f"{name}_weight_rounded"

    def _constant(self, name: str, values: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name
