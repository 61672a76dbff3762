"""The network as ONNX, its initialisers named as its state dict: the one file holds the weights for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from fetalmlops.domain.models.engine import INPUT_NAME
from fetalmlops.training.export import Graph
from fetalmlops.training.sononet.network import LEAST_POOLED

if TYPE_CHECKING:
    from torch import nn

    from fetalmlops.training.sononet.network import SonoNetPlanes, ViewHead

__all__ = ["export_sononet", "read_weights"]


def export_sononet(network: SonoNetPlanes, rows: int, columns: int) -> bytes:
    """Return the network as ONNX; the same weights give the same bytes.

    Parameters
    ----------
    network
        The network.
    rows, columns
        Size of its input; the number of frames stays free.
    """
    graph, x, pooled = Graph(), INPUT_NAME, []
    for row, block in enumerate(network.blocks):
        for column, conv in enumerate(block):
            x = _conv(graph, conv, f"blocks.{row}.{column}", x)
        pooled.append(graph.pool(x))
        if row + 1 < len(network.blocks):
            x = graph.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    graph.node("Concat", pooled[-2:], "features", axis=1)
    activations = _conv(graph, network.adaptation, "adaptation", x)
    _heads(graph, network, activations)
    return graph.serialised(rows, columns)


def read_weights(network: SonoNetPlanes, data: bytes) -> None:
    """Load the weights that an ONNX of `export_sononet` holds; raises `RuntimeError` if names or shapes differ."""
    constants = {each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(data).graph.initializer}
    network.load_state_dict(
        {name: torch.from_numpy(constants[name].copy()) for name in network.state_dict() if name in constants}
    )


def _heads(graph: Graph, network: SonoNetPlanes, activations: str) -> None:
    embedding = graph.pool(activations, "embedding")
    one = graph.constant(np.array(1, np.float32), "one")
    least = graph.constant(np.array(LEAST_POOLED, np.float32), "least_pooled")
    logarithms = graph.node("Log", [graph.node("Add", [embedding, one])])
    views = graph.node("Conv", [activations, *_linear(graph, network.views, "views")], kernel_shape=[1, 1])
    view_logits = graph.node("Unsqueeze", [graph.pool(views), graph.axes([1])])
    _logits(graph, network.brain_head, "brain_head", view_logits, logarithms, "brain_logits")
    shares, entropy, gain, weight, bias = _logits(
        graph, network.plane_head, "plane_head", view_logits, logarithms, "logits"
    )
    axes = graph.axes([2, 3])
    gains = graph.node("Unsqueeze", [graph.node("Div", [logarithms, graph.node("Max", [embedding, least])]), axes])
    linear = graph.node("Conv", [graph.node("Mul", [activations, gains]), graph.node("Unsqueeze", [weight, axes]), bias],
        kernel_shape=[1, 1])  # fmt: skip
    flat = graph.node("Reshape", [views, graph.axes([0, 0, -1])])
    of_views = graph.node("Reshape", [graph.node("MatMul", [shares, flat]), graph.node("Shape", [linear])])
    of_views = graph.node("Mul", [graph.node("Add", [of_views, graph.node("Unsqueeze", [entropy, axes])]), gain])
    graph.node("Add", [of_views, linear], "maps")


def _logits(
    graph: Graph, head: ViewHead, name: str, view_logits: str, logarithms: str, output: str
) -> tuple[str, str, str, str, str]:
    """Add a head's logits; return the names of shares, entropy, gain, and of the linear part's weight and bias."""
    outside = graph.constant(np.asarray(head.outside.numpy(), np.float32)[None])
    shares = graph.node("Softmax", [graph.node("Add", [view_logits, outside])], axis=2)
    tiny = graph.constant(np.array(np.finfo(np.float32).tiny, np.float32))
    logs = graph.node("Log", [graph.node("Max", [shares, tiny])])
    # Of a view outside the group the share is 0, and so is what it adds.
    odds = graph.node("Mul", [shares, graph.node("Sub", [view_logits, logs])])
    odds = graph.node("ReduceSum", [odds, graph.axes([2])], keepdims=0)
    entropy = graph.node(
        "Neg", [graph.node("ReduceSum", [graph.node("Mul", [shares, logs]), graph.axes([2])], keepdims=0)]
    )
    gain = graph.constant(np.asarray(head.gain.detach().numpy(), np.float32), f"{name}.gain")
    weight, bias = _linear(graph, head.residual, f"{name}.residual")
    linear = graph.node("Gemm", [logarithms, weight, bias], transB=1)
    graph.node("Add", [graph.node("Mul", [odds, gain]), linear], output)
    return shares, entropy, gain, weight, bias


def _conv(graph: Graph, conv: nn.Conv2d, name: str, x: str) -> str:
    size = conv.kernel_size[0]
    inputs = [x, *_linear(graph, conv, name)]
    return graph.node("Relu", [graph.node("Conv", inputs, kernel_shape=[size, size], pads=[size // 2] * 4)])


def _linear(graph: Graph, layer: nn.Module, name: str) -> tuple[str, str]:
    weight, bias = (np.asarray(tensor.detach().numpy(), np.float32) for tensor in (layer.weight, layer.bias))
    return graph.constant(weight, f"{name}.weight"), graph.constant(bias, f"{name}.bias")
