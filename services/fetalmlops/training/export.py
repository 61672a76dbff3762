"""Export of a trained network: its weights as safetensors, its graph as ONNX.

The graph of the residual network is written node by node, with the batch normalisations folded into the convolutions: it
holds what serving needs and nothing else. Those of other networks are traced by torch. The same weights always give the
same bytes.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from fetalmlops.domain.models.engine import INPUT_NAME, OUTPUT_NAMES
from fetalmlops.training.networks.residual import ConvBlock, PlaneNetwork, ResidualBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["Graph", "export_onnx", "export_weights", "load_weights"]

_OPSET = 17
_IR_VERSION = 8


def export_weights(network: nn.Module) -> bytes:
    """Return the state dict as safetensors: what fine-tuning starts from."""
    return bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}))


def load_weights(network: nn.Module, data: bytes) -> None:
    """Load a state dict that `export_weights` returned; raises `RuntimeError` if names or shapes differ."""
    from safetensors.torch import load

    network.load_state_dict(load(data))


def export_onnx(network: nn.Module, rows: int, columns: int) -> bytes:
    """Return the network as ONNX.

    Parameters
    ----------
    network
        The trained network, in evaluation mode, on the CPU.
    rows, columns
        Size of its input; the number of frames stays free.
    """
    if isinstance(network, PlaneNetwork):
        return _written(network, rows, columns)
    model = _traced(network, rows, columns)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _traced(network: nn.Module, rows: int, columns: int) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that needs no further package says that another is its default.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.to(memory_format=torch.contiguous_format),
            (torch.zeros(2, 1, rows, columns),),
            file,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[INPUT_NAME],
            output_names=[*OUTPUT_NAMES],
            dynamic_axes={name: {0: "frames"} for name in (INPUT_NAME, *OUTPUT_NAMES)},
        )
    return onnx.load_from_string(file.getvalue())


def _written(network: PlaneNetwork, rows: int, columns: int) -> bytes:
    graph = Graph()
    x = earlier = INPUT_NAME
    for stage in network.stages:
        earlier = x
        for block in stage:
            x = graph.residual(block, x) if isinstance(block, ResidualBlock) else graph.block(block, x)
    embedding = graph.pool(x, "embedding")
    graph.node("Concat", [graph.pool(earlier), embedding], "features", axis=1)
    graph.pool(graph.conv(network.plane_head, x, "maps"), "logits")
    weight, bias = (_array(tensor) for tensor in (network.brain_head.weight, network.brain_head.bias))
    graph.node("Gemm", [embedding, graph.constant(weight[:, :, 0, 0]), graph.constant(bias)], "brain_logits", transB=1)
    return graph.serialised(rows, columns)


class Graph:
    """An ONNX graph that is written node by node, from the frames on."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def serialised(self, rows: int, columns: int) -> bytes:
        """Return the checked model: one input of `rows` by `columns`, any number of frames, and an engine's outputs."""
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                "planes",
                [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["frames", 1, rows, columns])],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in OUTPUT_NAMES],
                self.constants,
            ),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="fetalmlops",
        )
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        """Add a node; return the name of its output."""
        name = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind.lower()}_{name}", **attributes))
        return name

    def constant(self, array: NDArray[np.float32], name: str = "") -> str:
        """Add a constant; return its name."""
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def axes(self, axes: list[int]) -> str:
        """Add a constant that names axes; return its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(axes, np.int64), name))
        return name

    def pool(self, x: str, output: str = "") -> str:
        """Add the mean over rows and columns."""
        return self.node("ReduceMean", [x], output, axes=[2, 3], keepdims=0)

    def conv(self, conv: nn.Conv2d, x: str, output: str = "") -> str:
        """Add a 1x1 convolution."""
        weight, bias = _array(conv.weight), _array(conv.bias)
        return self.node("Conv", [x, self.constant(weight), self.constant(bias)], output, kernel_shape=[1, 1])

    def block(self, block: ConvBlock, x: str) -> str:
        """Add a convolution with its normalisation and rectifier."""
        weight, bias = _fold(block)
        stride = list(block.conv.stride)
        inputs = [x, self.constant(weight), self.constant(bias)]
        x = self.node("Conv", inputs, kernel_shape=[3, 3], strides=stride, pads=[1, 1, 1, 1])
        return self.node("Relu", [x]) if block.rectified else x

    def residual(self, block: ResidualBlock, x: str) -> str:
        """Add a residual block."""
        return self.node("Relu", [self.node("Add", [x, self.block(block.second, self.block(block.first, x))])])


def _fold(block: ConvBlock) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold a batch normalisation into the convolution before it."""
    norm = block.norm
    gain = _array(norm.weight).astype(np.float64) / np.sqrt(_array(norm.running_var) + norm.eps)
    weight = _array(block.conv.weight) * gain[:, None, None, None]
    bias = _array(norm.bias) - _array(norm.running_mean) * gain
    return weight.astype(np.float32), bias.astype(np.float32)


def _array(tensor: object) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().numpy(), np.float32)  # type: ignore[attr-defined]
