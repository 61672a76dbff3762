"""The torch engine: for GPUs, and for a second opinion on CPUs. Needs the ``torch`` extra.

It runs the ONNX of the bundle, operator by operator, so that both engines serve the very same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.models.engine import (
    INPUT_NAME,
    OUTPUT_NAMES,
    EngineOutput,
    absent_output,
    batch_parts,
    join_outputs,
)
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.operators import OPERATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from fetalmlops.domain.models.bundle import Bundle

__all__ = ["TorchEngine"]

_TYPES: Final = {Precision.F32: torch.float32, Precision.BF16: torch.bfloat16}
_CUDA_SIZES: Final = (64, 32, 16, 8, 4, 2, 1)
_WARMING: Final = 3
_PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True, eq=False)
class _Step:
    """One node: `run` takes the values of `inputs`, where an empty name stands for none."""

    run: Callable[..., Tensor]
    attributes: Mapping[str, Any]
    inputs: Sequence[str]
    output: str
    last_use: Sequence[str]


class _Captured(NamedTuple):
    """The network as a CUDA graph for one number of frames, and the memory that it reads and writes."""

    graph: Any
    frames: Tensor
    outputs: dict[str, Tensor]


class TorchEngine:
    """Runs a bundle's network by torch.

    On a GPU it is captured as a CUDA graph once for each of a few numbers of frames, when that number first comes, and a batch
    is cut into these: launching its operators one by one would take longer than they do.

    Parameters
    ----------
    bundle
        The bundle.
    device
        Where it runs.
    threads
        Threads of one inference on the CPU; torch has them per process, so the engine made last decides.
    precision
        Precision; default: the bundle's. In bf16 convolutions and matrix products are, and the rest is f32.

    Raises
    ------
    ContractError
        If the bundle has no variant of that precision, or its network cannot be read or has an operator that is not known here.
    SettingsError
        If torch sees no GPU though one is asked for, or the precision is int8.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Literal["cpu", "cuda"] = "cpu",
        threads: int = 1,
        precision: Precision | None = None,
    ) -> None:
        self._precision = precision or bundle.manifest.default_precision
        network = bundle.network(self._precision)
        _check(device, self._precision)
        if device == "cpu":
            torch.set_num_threads(threads)
        elif self._precision is Precision.F32:
            # Else convolutions would round to TF32, which has ten bits where f32 has 23.
            torch.backends.cudnn.allow_tf32 = False
        self._device = torch.device(device)
        self._outputs = bundle.manifest.outputs
        self._program = _Program(network, self._outputs, _TYPES[self._precision], self._device)
        self._captured: dict[int, _Captured] = {}
        try:
            self.infer(np.zeros((1, bundle.manifest.input.rows, bundle.manifest.input.columns), np.float32))
        except (RuntimeError, NotImplementedError, IndexError, TypeError, KeyError) as error:
            msg = f"Expected a network that torch runs, got one on which it fails: {type(error).__name__}; serve it by openvino"
            raise ContractError(msg, reason="bundle") from error

    @property
    def name(self) -> str:
        """Engine, version and device."""
        return f"torch {torch.__version__.partition('+')[0]} {self._device.type}"

    @property
    def precision(self) -> Precision:
        """Arithmetic it runs in."""
        return self._precision

    def infer(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run the network; see `fetalmlops.domain.models.engine.Engine`."""
        # A copy, since torch warns of memory that it may not write to.
        frames = torch.from_numpy(np.array(batch, np.float32, order="C"))[:, None]
        with torch.inference_mode():
            if self._device.type == "cpu":
                return self._read(self._program.run(frames), len(frames))
            parts = batch_parts(len(frames), _CUDA_SIZES)
            return join_outputs([self._replay(frames[start:stop]) for start, stop in parts])

    def _replay(self, frames: Tensor) -> EngineOutput:
        count = len(frames)
        if count not in self._captured:
            self._captured[count] = self._capture(frames.to(self._device))
        captured = self._captured[count]
        captured.frames.copy_(frames)
        captured.graph.replay()
        return self._read(captured.outputs, count)

    def _capture(self, frames: Tensor) -> _Captured:
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARMING):
                self._program.run(frames)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._program.run(frames)
        return _Captured(graph, frames, outputs)

    def _read(self, outputs: dict[str, Tensor], frames: int) -> EngineOutput:
        return EngineOutput(
            *(
                outputs[name].to("cpu", torch.float32).numpy() if name in outputs else absent_output(name, frames)
                for name in OUTPUT_NAMES
            )
        )


class _Program:
    """An ONNX graph as steps, in the order in which the file has them."""

    def __init__(self, network: bytes, outputs: Sequence[str], kind: torch.dtype, device: torch.device) -> None:
        graph = _read(network)
        unknown = sorted({node.op_type for node in graph.node} - OPERATORS.keys() - {"Constant"})
        if unknown:
            msg = f"Expected operators that the torch engine has, got also {', '.join(unknown)}; serve the bundle by openvino"
            raise ContractError(msg, reason="bundle")
        given = {name for node in graph.node for name in node.output}
        if [each.name for each in _inputs(graph)] != [INPUT_NAME] or not given.issuperset(outputs):
            msg = f"Expected a network with the input {INPUT_NAME} and the outputs {', '.join(outputs)}, got another"
            raise ContractError(msg, reason="bundle")
        arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        arrays |= {n.output[0]: _attributes(n)["value"] for n in graph.node if n.op_type == "Constant"}
        self._constants = _on_device(arrays, _reduced(graph, kind), device)
        self._outputs = outputs
        self._device = device
        self._steps = _steps(graph, {*outputs, *self._constants})

    def run(self, frames: Tensor) -> dict[str, Tensor]:
        """Return the outputs on frames, [frames, 1, rows, columns]."""
        x = frames.to(self._device).contiguous(memory_format=torch.channels_last)
        values: dict[str, Any] = {**self._constants, INPUT_NAME: x, "": None}
        for step in self._steps:
            values[step.output] = step.run(step.attributes, *(values[name] for name in step.inputs))
            for name in step.last_use:
                del values[name]
        return {name: values[name].float().contiguous() for name in self._outputs}


def _steps(graph: Any, kept: set[str]) -> list[_Step]:
    steps: list[_Step] = []
    needed = kept | {"", INPUT_NAME}
    for node in reversed([node for node in graph.node if node.op_type != "Constant"]):
        last = {*node.input} - needed
        needed |= last
        steps.append(_Step(OPERATORS[node.op_type], _attributes(node), [*node.input], node.output[0], [*last]))
    return steps[::-1]


def _reduced(graph: Any, kind: torch.dtype) -> dict[str, torch.dtype]:
    """Return the type of the constants of convolutions and matrix products, by name."""
    return {name: kind for node in graph.node if node.op_type in _PRODUCTS for name in node.input}


def _on_device(
    arrays: Mapping[str, NDArray[Any]], reduced: Mapping[str, torch.dtype], device: torch.device
) -> dict[str, Tensor]:
    constants = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array.copy())
        if tensor.is_floating_point():
            tensor = tensor.to(device, reduced.get(name, torch.float32))
            # Limits of Clip are read as numbers, which a CUDA graph cannot.
            tensor = tensor.cpu() if tensor.dim() == 0 else tensor
        constants[name] = tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
    return constants


def _attributes(node: Any) -> dict[str, Any]:
    found = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Constant":
        return {"value": numpy_helper.to_array(found["value"])}
    if found.get("auto_pad", b"NOTSET") != b"NOTSET":
        msg = f"Expected explicit pads of {node.op_type}, got auto_pad; serve the bundle by openvino"
        raise ContractError(msg, reason="bundle")
    return found


def _inputs(graph: Any) -> list[Any]:
    constants = {each.name for each in graph.initializer}
    return [each for each in graph.input if each.name not in constants]


def _read(network: bytes) -> Any:
    try:
        model = onnx.load_model_from_string(network)
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001 - protobuf and the checker raise what they like
        msg = f"Expected an ONNX network, got one that cannot be read ({type(error).__name__}); fetch the bundle again"
        raise ContractError(msg, reason="bundle") from None
    return model.graph


def _check(device: str, precision: Precision) -> None:
    if precision not in _TYPES:
        msg = f"Expected f32 or bf16 of the engine torch, got {precision}; set inference.precision, or the engine openvino"
        raise SettingsError(msg)
    if device == "cuda" and not torch.cuda.is_available():
        msg = "Expected a GPU that torch can use for inference.device cuda, got none; see nvidia-smi, or set cpu"
        raise SettingsError(msg)
