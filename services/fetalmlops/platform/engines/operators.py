"""ONNX operators in torch: those that bundles are made of, each by its definition for opset 17.

Convolutions and matrix products run in the arithmetic of the program. What sums, exponentiates or takes logarithms runs in
``float32`` whatever that is. Integers are shapes, axes and indices; they stay on the CPU, so that a program can be captured
as a CUDA graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional as F  # noqa: N812 - the name that torch's own documentation gives it

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Operator = Callable[..., Tensor]
    Attributes = Mapping[str, Any]

__all__ = ["OPERATORS", "symmetric"]

_SIXTH: Final = 1 / 6


def symmetric(pads: list[int]) -> bool:
    """Return whether pads, those of all beginnings before those of all ends, are the same on both sides."""
    half = len(pads) // 2
    return pads[:half] == pads[half:]


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sides = weight.dim() - 2
    pads = attributes.get("pads", [0] * 2 * sides)
    x = x.to(weight.dtype)
    if not symmetric(pads):
        x, pads = _padded(x, pads, 0.0), [0] * 2 * sides
    return F.conv2d(
        x,
        weight,
        bias,
        attributes.get("strides", [1] * sides),
        pads[:sides],
        attributes.get("dilations", [1] * sides),
        attributes.get("group", 1),
    )


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel, strides, pads, up = _pooling(attributes)
    if not symmetric(pads):
        x, pads = _padded(x, pads, -torch.inf), [0, 0, 0, 0]
    return F.max_pool2d(x, kernel, strides, pads[:2], attributes.get("dilations", [1, 1]), ceil_mode=up)


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel, strides, pads, up = _pooling(attributes)
    counted = bool(attributes.get("count_include_pad", 0))
    if not symmetric(pads):
        if not counted:
            msg = "Expected pads that are the same on both sides"
            raise NotImplementedError(msg)
        x, pads = _padded(x, pads, 0.0), [0, 0, 0, 0]
    return F.avg_pool2d(x, kernel, strides, pads[:2], ceil_mode=up, count_include_pad=counted)


def _pooling(attributes: Attributes) -> tuple[list[int], list[int], list[int], bool]:
    strides = attributes.get("strides", [1, 1])
    return attributes["kernel_shape"], strides, attributes.get("pads", [0] * 4), bool(attributes.get("ceil_mode", 0))


def _padded(x: Tensor, pads: list[int], value: float) -> Tensor:
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value)


def _batch_normalization(
    attributes: Attributes, x: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return F.batch_norm(x, mean, variance, gain, shift, eps=attributes.get("epsilon", 1e-5))


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.to(b.dtype)
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product = a @ b * attributes.get("alpha", 1.0)
    return product if c is None else product + c * attributes.get("beta", 1.0)


def _mat_mul(attributes: Attributes, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG001
    kind = min(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return a.to(kind) @ b.to(kind)


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if abs(alpha - _SIXTH) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return (x * alpha + beta).clamp(0, 1)


def _clip(attributes: Attributes, x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    low = attributes.get("min") if least is None else float(least)
    high = attributes.get("max") if most is None else float(most)
    return x.clamp(low, high)


def _reduction(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def run(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = attributes.get("axes") if axes is None else axes.tolist()
        return reduce(x.float(), chosen or [*range(x.dim())], bool(attributes.get("keepdims", 1)))

    return run


def _softmax(attributes: Attributes, x: Tensor) -> Tensor:
    return F.softmax(x.float(), attributes.get("axis", -1))


def _unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = attributes["axes"] if axes is None else axes.tolist()
    dims = x.dim() + len(chosen)
    for axis in sorted(axis % dims for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = attributes.get("axes") if axes is None else axes.tolist()
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def _reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:  # noqa: ARG001
    return x.reshape([x.shape[i] if side == 0 else side for i, side in enumerate(shape.tolist())])


def _flatten(attributes: Attributes, x: Tensor) -> Tensor:
    axis = attributes.get("axis", 1) % (x.dim() + 1)
    return x.reshape(x.shape[:axis].numel(), -1)


def _gather(attributes: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = attributes.get("axis", 0)
    if index.dim() == 0:
        return x.select(axis, int(index))
    # Slices, because an index on the CPU could not be taken into a CUDA graph.
    return torch.cat([x.select(axis, i).unsqueeze(axis) for i in index.flatten().tolist()], axis)


def _pooled(attributes: Attributes, x: Tensor) -> Tensor:  # noqa: ARG001
    return x.float().mean((2, 3), keepdim=True)


OPERATORS: Final[dict[str, Operator]] = {
    "Add": lambda _, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": _conv,
    "Div": lambda _, a, b: a / b,
    "Dropout": lambda _, x, *__: x,
    "Exp": lambda _, x: x.float().exp(),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _pooled,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "Identity": lambda _, x: x,
    "LeakyRelu": lambda attributes, x: F.leaky_relu(x, attributes.get("alpha", 0.01)),
    "Log": lambda _, x: x.float().log(),
    "MatMul": _mat_mul,
    "Max": lambda _, *parts: parts[0] if len(parts) == 1 else _folded(torch.maximum, parts),
    "MaxPool": _max_pool,
    "Min": lambda _, *parts: parts[0] if len(parts) == 1 else _folded(torch.minimum, parts),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "ReduceMax": _reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "Relu": lambda _, x: x.relu(),
    "Reshape": _reshape,
    "Shape": lambda _, x: torch.tensor(x.shape),
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": lambda _, a, b: a - b,
    "Tanh": lambda _, x: x.tanh(),
    "Transpose": lambda attributes, x: x.permute(attributes.get("perm", [*range(x.dim())][::-1])),
    "Unsqueeze": _unsqueeze,
}
"""What runs each operator, by its name: takes the node's attributes, then its inputs."""


def _folded(combine: Callable[[Tensor, Tensor], Tensor], parts: tuple[Tensor, ...]) -> Tensor:
    first, *others = parts
    for other in others:
        first = combine(first, other)
    return first
