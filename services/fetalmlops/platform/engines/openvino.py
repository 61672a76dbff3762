"""The OpenVINO engine: the default on CPUs."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fetalmlops.domain.models.bundle import Bundle

__all__ = ["OpenVinoEngine", "can_run", "supports_bf16"]

_DEVICE: Final = "CPU"
_SIZES: Final = (8, 4, 2, 1)
_BF16: Final = "BF16"
_TYPES: Final = {
    Precision.F32: openvino.Type.f32,
    Precision.BF16: openvino.Type.bf16,
    Precision.INT8: openvino.Type.f32,
}


class _Compiled(NamedTuple):
    """The network for one number of frames."""

    request: Any
    outputs: dict[str, Any]


def supports_bf16() -> bool:
    """Return whether this CPU computes in bf16."""
    capabilities = openvino.Core().get_property(_DEVICE, properties.device.capabilities)
    return _BF16 in capabilities


def can_run(precision: Precision) -> bool:
    """Return whether this CPU computes in a precision; integers and f32 run on every one."""
    return precision is not Precision.BF16 or supports_bf16()


class OpenVinoEngine:
    """Runs a bundle's network by OpenVINO on the CPU, in one stream.

    A network whose number of frames is fixed takes up to a fifth less time, because nothing is planned anew in each call. So it
    is compiled once for each of a few numbers of frames, when that number first comes, and a batch is cut into these.

    Parameters
    ----------
    bundle
        The bundle.
    threads
        Threads that one inference uses. Several processes of one thread do more than one process of several.
    precision
        Precision; default: the bundle's. Quantised networks (int8) carry their quantisation in the ONNX.
    alter
        Changes the network before it is compiled, as sanity checks of explanations do; default: nothing.

    Raises
    ------
    ContractError
        If the bundle has no variant of that precision, or its network cannot be read.
    SettingsError
        If this CPU does not compute in that precision.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 1,
        precision: Precision | None = None,
        alter: Callable[[Any], None] | None = None,
    ) -> None:
        self._precision = precision or bundle.manifest.default_precision
        network = bundle.network(self._precision)
        if not can_run(self._precision):
            msg = f"Expected a CPU with bf16 for inference.precision, got {platform.machine()} without; set f32"
            raise SettingsError(msg)
        self._outputs = bundle.manifest.outputs
        self._options = _options(threads, self._precision)
        self._compiled: dict[int, _Compiled] = {}
        try:
            self._core = openvino.Core()
            self._model = self._core.read_model(network)
            if alter is not None:
                alter(self._model)
            self._shape = self._model.input(INPUT_NAME).get_partial_shape()
            self._for(1)
        except RuntimeError as error:
            outputs = ", ".join(bundle.manifest.outputs)
            msg = f"Expected a network with the input {INPUT_NAME} and the outputs {outputs}, got another"
            raise ContractError(msg, reason="bundle") from error

    @property
    def name(self) -> str:
        """Engine and version."""
        return f"openvino {openvino.__version__.partition('-')[0]}"

    @property
    def precision(self) -> Precision:
        """Arithmetic it runs in."""
        return self._precision

    def infer(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run the network; see `fetalmlops.domain.models.engine.Engine`."""
        frames = np.ascontiguousarray(batch, np.float32)[:, None]
        return join_outputs([self._run(frames[start:stop]) for start, stop in batch_parts(len(frames), _SIZES)])

    def _run(self, frames: NDArray[np.float32]) -> EngineOutput:
        compiled = self._for(len(frames))
        results = compiled.request.infer({0: frames}, share_inputs=True)
        return EngineOutput(
            *(
                results[compiled.outputs[name]] if name in compiled.outputs else absent_output(name, len(frames))
                for name in OUTPUT_NAMES
            )
        )

    def _for(self, count: int) -> _Compiled:
        """Return the network compiled for a number of frames."""
        if count not in self._compiled:
            self._shape[0] = count
            self._model.reshape({INPUT_NAME: self._shape})
            compiled = self._core.compile_model(self._model, _DEVICE, self._options)
            outputs = {name: compiled.output(name) for name in self._outputs}
            self._compiled[count] = _Compiled(compiled.create_infer_request(), outputs)
        return self._compiled[count]


def _options(threads: int, precision: Precision) -> dict[str, object]:
    return {
        hint.performance_mode(): hint.PerformanceMode.LATENCY,
        hint.inference_precision(): _TYPES[precision],
        properties.num_streams(): 1,
        properties.inference_num_threads(): threads,
        hint.enable_cpu_pinning(): False,
    }
