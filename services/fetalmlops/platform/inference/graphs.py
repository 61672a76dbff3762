"""ONNX graphs: a foreign classifier wrapped to the engine's contract, and a head changed. Needs the ``train`` extra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.models.engine import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["IGNORED", "Wrapped", "change_head", "read_labels", "wrap_classifier"]

IGNORED: Final = "-"
"""Label of a foreign class that stands for none of the planes: its probability goes to the others."""

_NEVER: Final = -1e4
_PREFIX: Final = "foreign_"
_PASSING: Final = frozenset({"Flatten", "Identity", "Dropout", "Reshape", "Squeeze"})


@dataclass(frozen=True)
class Wrapped:
    """A foreign network that holds to the contract.

    Parameters
    ----------
    network
        The ONNX.
    outputs
        Those of the engine's outputs that it gives.
    rows, columns
        Size of its input.
    embedding_length
        Length of its embedding, 0 for none.
    parameters
        Number of its weights.
    never_named
        Planes that it has no class for.
    """

    network: bytes
    outputs: tuple[str, ...]
    rows: int
    columns: int
    embedding_length: int
    parameters: int
    never_named: tuple[str, ...]


def read_labels(text: str) -> list[str]:
    """Read the planes of a network's classes, in order, separated by commas.

    Raises
    ------
    SettingsError
        If a word is neither a plane nor ``-``.

    Examples
    --------
    >>> read_labels("brain, -, femur")
    ['brain', '-', 'femur']
    """
    labels = [word.strip() for word in text.split(",")]
    if not set(labels) <= {*PLANES, IGNORED} or not set(labels) & {*PLANES}:
        msg = f"Expected the planes {', '.join(PLANES)}, or {IGNORED} for none, one a class, got another word; mend --labels"
        raise SettingsError(msg)
    return labels


def wrap_classifier(data: bytes, labels: Sequence[str], mean: Sequence[float], deviation: Sequence[float]) -> Wrapped:
    """Wrap a classifier so that it takes grey frames and names our planes.

    Parameters
    ----------
    data
        ONNX of a network with one input, [images, 1 or 3, rows, columns], and logits as its first output.
    labels
        Plane of each class, or `IGNORED`; classes of the same plane share its probability.
    mean, deviation
        What its input is standardised by, of levels from 0 to 1: one number, or one a channel.

    Raises
    ------
    ContractError
        If it is another network.
    SettingsError
        If the ``train`` extra is not installed.
    """
    onnx = _onnx()
    model = _read(data)
    graph = onnx.compose.add_prefix(model, _PREFIX).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    channels, rows, columns = _input_shape(inputs)
    parameters = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
    logits = graph.output[0].name
    edit = _Edit(graph)
    edit.standardise(inputs[0].name, channels, _channels(mean, channels), _channels(deviation, channels))
    places = {str(plane): [i for i, label in enumerate(labels) if label == plane] for plane in PLANES}
    edit.planes(logits, places)
    embedding, outputs = edit.embedding(logits, places, len(labels))
    network = edit.model(model, rows, columns, outputs)
    return Wrapped(
        network=network,
        outputs=outputs,
        rows=rows,
        columns=columns,
        embedding_length=embedding,
        parameters=max(1, parameters),
        never_named=tuple(plane for plane, found in places.items() if not found),
    )


def change_head(data: bytes, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> tuple[bytes, bool]:
    """Add a linear function of the embedding to the planes' logits.

    Parameters
    ----------
    data
        ONNX of a bundle that gives an embedding.
    weight, bias
        The function, [embedding, planes] and [planes].

    Returns
    -------
    tuple[bytes, bool]
        The ONNX, and whether its maps are those of the changed head; where they cannot be, it gives none.
    """
    onnx = _onnx()
    model = _read(data)
    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    maps = made.get("maps")
    if maps is not None and maps.op_type == "Conv" and {*maps.input[1:]} <= {*constants} and len(maps.input) == 3:
        for name, change in zip(maps.input[1:], (weight.T[:, :, None, None], bias), strict=True):
            tensor = constants[name]
            changed = onnx.numpy_helper.to_array(tensor) + change.astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(changed), name))
        return _bytes(model), True
    for node in graph.node:
        node.output[:] = ["logits_before" if name == "logits" else name for name in node.output]
        node.input[:] = ["logits_before" if name == "logits" else name for name in node.input]
    edit = _Edit(graph)
    shift = edit.node("Gemm", ["embedding", edit.constant(weight), edit.constant(bias)])
    edit.node("Add", ["logits_before", shift], "logits")
    kept = [each for each in graph.output if each.name != "maps"]
    del graph.output[:]
    graph.output.extend(kept)
    return _bytes(model), False


class _Edit:
    """Adds nodes to a graph."""

    def __init__(self, graph: Any) -> None:
        self._onnx = _onnx()
        self._graph = graph
        self._before: list[Any] = []
        self._count = 0

    def node(self, kind: str, inputs: list[str], output: str = "", *, first: bool = False, **attributes: Any) -> str:
        self._count += 1
        name = output or f"wrap_{self._count}"
        made = self._onnx.helper.make_node(
            kind, inputs, [name], name=f"wrap_{kind.lower()}_{self._count}", **attributes
        )
        (self._before if first else self._graph.node).append(made)
        return name

    def constant(self, values: Any, kind: type[Any] = np.float32) -> str:
        self._count += 1
        name = f"wrap_constant_{self._count}"
        array = np.ascontiguousarray(np.asarray(values, kind))
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def standardise(self, name: str, channels: int, mean: list[float], deviation: list[float]) -> None:
        x = INPUT_NAME if channels == 1 else self.node("Concat", [INPUT_NAME] * channels, first=True, axis=1)
        shape = (1, channels, 1, 1)
        x = self.node("Sub", [x, self.constant(np.reshape(mean, shape))], first=True)
        self.node("Div", [x, self.constant(np.reshape(deviation, shape))], name, first=True)

    def planes(self, logits: str, places: dict[str, list[int]]) -> None:
        self.node("Concat", [self._plane(logits, found) for found in places.values()], "logits", axis=1)

    def _plane(self, logits: str, found: list[int]) -> str:
        taken = self.node("Gather", [logits, self.constant(found or [0], np.int64)], axis=1)
        if not found:
            nothing = self.node("Mul", [taken, self.constant(0.0)])
            return self.node("Add", [nothing, self.constant(_NEVER)])
        if len(found) == 1:
            return taken
        # By hand, because the operator's axes moved from attribute to input between versions. The largest goes first.
        largest = self.node("ReduceMax", [taken], axes=[1], keepdims=1)
        powers = self.node("Exp", [self.node("Sub", [taken, largest])])
        ones = self.constant(np.ones((len(found), 1)))
        return self.node("Add", [self.node("Log", [self.node("MatMul", [powers, ones])]), largest])

    def embedding(self, logits: str, places: dict[str, list[int]], classes: int) -> tuple[int, tuple[str, ...]]:
        """Give what the last linear layer takes as the embedding, and maps where global average pooling made it."""
        made = {name: node for node in self._graph.node for name in node.output}
        head = made.get(logits)
        found = self._linear(head, classes)
        if head is None or found is None:
            return 0, ("logits",)
        weight, bias = found
        self.node("Identity", [head.input[0]], "embedding")
        self.node("Identity", [head.input[0]], "features")
        outputs = ("logits", "embedding", "features")
        source = _pooled(made, head.input[0])
        if source is None or any(len(each) > 1 for each in places.values()):
            return weight.shape[1], outputs
        own = [each[0] if each else -1 for each in places.values()]
        kernel = np.stack([weight[i] if i >= 0 else np.zeros(weight.shape[1]) for i in own])[:, :, None, None]
        shift = np.array([bias[i] if i >= 0 else _NEVER for i in own])
        self.node("Conv", [source, self.constant(kernel), self.constant(shift)], "maps", kernel_shape=[1, 1])
        return weight.shape[1], (*outputs, "maps")

    def _linear(self, head: Any, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        constants = {each.name: self._onnx.numpy_helper.to_array(each) for each in self._graph.initializer}
        if head is None or head.op_type != "Gemm" or len(head.input) < 3 or not {*head.input[1:3]} <= {*constants}:
            return None
        settings = {each.name: self._onnx.helper.get_attribute_value(each) for each in head.attribute}
        if settings.get("transA", 0) or settings.get("alpha", 1.0) != 1 or settings.get("beta", 1.0) != 1:
            return None
        weight, bias = constants[head.input[1]], constants[head.input[2]]
        weight = weight if settings.get("transB", 0) else weight.T
        return (weight, bias) if weight.shape[0] == classes == bias.size else None

    def model(self, model: Any, rows: int, columns: int, outputs: tuple[str, ...]) -> bytes:
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            [*self._before, *self._graph.node],
            "planes",
            [helper.make_tensor_value_info(INPUT_NAME, kind, ["frames", 1, rows, columns])],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            [*self._graph.initializer],
        )
        made = helper.make_model(
            graph, opset_imports=[*model.opset_import], ir_version=model.ir_version, producer_name="fetalmlops"
        )
        return _bytes(self._onnx.shape_inference.infer_shapes(made))


def _pooled(made: dict[str, Any], name: str) -> str | None:
    """Return what global average pooling made `name` from, with nothing else between; None if another layer did."""
    node = made.get(name)
    while node is not None and node.op_type in _PASSING:
        node = made.get(node.input[0])
    return str(node.input[0]) if node is not None and node.op_type == "GlobalAveragePool" else None


def _input_shape(inputs: list[Any]) -> tuple[int, int, int]:
    shape = [each.dim_value for each in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(shape) != 4 or shape[0] > 0 or shape[1] not in (1, 3) or min(shape[2:]) < 1:
        msg = (
            "Expected one input of [images, 1 or 3, rows, columns], the number of images free and the rest fixed, got another; "
            "export the model so"
        )
        raise ContractError(msg, reason="import")
    return shape[1], shape[2], shape[3]


def _channels(values: Sequence[float], channels: int) -> list[float]:
    if len(values) not in (1, channels):
        msg = f"Expected one number, or {channels}, for mean and deviation of the input, got {len(values)}; mend --preprocess"
        raise SettingsError(msg)
    return [*values] * (channels if len(values) == 1 else 1)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.compose
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError:
        msg = "Expected the package onnx, got none; install the train extra: pip install 'fetalmlops[train]'"
        raise SettingsError(msg) from None
    return onnx


def _read(data: bytes) -> Any:
    onnx = _onnx()
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001 - protobuf and the checker raise what they like
        msg = (
            f"Expected an ONNX model in one file, got one that cannot be read ({type(error).__name__}); export it again"
        )
        raise ContractError(msg, reason="import") from None
    return model


def _bytes(model: Any) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))
