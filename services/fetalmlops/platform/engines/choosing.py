"""Which engine the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.openvino import OpenVinoEngine, can_run
from fetalmlops.platform.engines.precision import served_precision

if TYPE_CHECKING:
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine
    from fetalmlops.platform.settings import InferenceSettings

__all__ = ["make_engine"]


def make_engine(bundle: Bundle, settings: InferenceSettings) -> Engine:
    """Return the engine that the settings ask for, in the precision that they and this machine allow.

    Raises
    ------
    ContractError
        If the bundle has no variant of the precision, or its network cannot be read.
    SettingsError
        If the engine is not installed, or this machine lacks the device or the precision.
    """
    if settings.engine == "openvino":
        if settings.device != "cpu":
            msg = f"Expected inference.device cpu of the engine openvino, got {settings.device}; set inference.engine to torch"
            raise SettingsError(msg)
        precision = served_precision(bundle.manifest, settings, can_run)
        return OpenVinoEngine(bundle, threads=settings.threads, precision=precision)
    try:
        from fetalmlops.platform.engines.torch import TorchEngine
    except ImportError:
        msg = "Expected torch and onnx for inference.engine torch, got none; install the extra: pip install 'fetalmlops[torch]'"
        raise SettingsError(msg) from None
    precision = served_precision(bundle.manifest, settings, lambda wanted: wanted is not Precision.INT8)
    return TorchEngine(bundle, device=settings.device, threads=settings.threads, precision=precision)
