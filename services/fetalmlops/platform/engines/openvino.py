"""The OpenVINO engine: the default on CPUs."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final

import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint

from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.models.engine import INPUT_NAME, OUTPUT_NAMES, EngineOutput
from fetalmlops.domain.models.manifest import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.bundle import Bundle

__all__ = ["OpenVinoEngine", "supports_bf16"]

_DEVICE: Final = "CPU"
_BF16: Final = "BF16"
_TYPES: Final = {
    Precision.F32: openvino.Type.f32,
    Precision.BF16: openvino.Type.bf16,
    Precision.INT8: openvino.Type.f32,
}


def supports_bf16() -> bool:
    """Return whether this CPU computes in bf16."""
    capabilities = openvino.Core().get_property(_DEVICE, properties.device.capabilities)
    return _BF16 in capabilities


class OpenVinoEngine:
    """Runs a bundle's network by OpenVINO on the CPU, in one stream.

    Parameters
    ----------
    bundle
        The bundle.
    threads
        Threads that one inference uses. Several processes of one thread do more than one process of several.
    precision
        Precision; default: the bundle's. Quantised networks (int8) carry their quantisation in the ONNX.

    Raises
    ------
    ContractError
        If the bundle has no variant of that precision, or its network cannot be read.
    SettingsError
        If this CPU does not compute in that precision.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, precision: Precision | None = None) -> None:
        self._precision = precision or bundle.manifest.default_precision
        network = bundle.network(self._precision)
        if self._precision is Precision.BF16 and not supports_bf16():
            msg = f"Expected a CPU with bf16 for inference.precision, got {platform.machine()} without; set f32"
            raise SettingsError(msg)
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(network), _DEVICE, _options(threads, self._precision))
            self._request = compiled.create_infer_request()
            self._outputs = [compiled.output(name) for name in OUTPUT_NAMES]
            self._input = compiled.input(INPUT_NAME)
        except RuntimeError as error:
            msg = (
                f"Expected a network with the input {INPUT_NAME} and the outputs {', '.join(OUTPUT_NAMES)}, got another"
            )
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
        results = self._request.infer({self._input: frames}, share_inputs=True)
        return EngineOutput(*(results[output] for output in self._outputs))


def _options(threads: int, precision: Precision) -> dict[str, object]:
    return {
        hint.performance_mode(): hint.PerformanceMode.LATENCY,
        hint.inference_precision(): _TYPES[precision],
        properties.num_streams(): 1,
        properties.inference_num_threads(): threads,
        hint.enable_cpu_pinning(): False,
    }
