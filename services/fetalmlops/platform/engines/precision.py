"""Which precision a bundle is served in: its own, or the one that the settings fix; another one only where that is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.engines.openvino import can_run
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.models.manifest import Manifest
    from fetalmlops.platform.settings import InferenceSettings

__all__ = ["served_precision"]

_log = get_logger(__name__)


def served_precision(
    manifest: Manifest, settings: InferenceSettings, able: Callable[[Precision], bool] = can_run
) -> Precision:
    """Return the precision to serve a bundle in.

    Where this machine does not compute in the one that is wanted and `inference.precision_fallback` allows another, it is
    f32: results then say so, and are other results than those of the wanted precision. Without that the engine refuses.

    Parameters
    ----------
    manifest
        Manifest of the bundle.
    settings
        What is wanted and allowed.
    able
        Whether this machine computes in a precision.
    """
    wanted = Precision(settings.precision) if settings.precision else manifest.default_precision
    if able(wanted) or not settings.precision_fallback or Precision.F32 not in manifest.variants:
        return wanted
    _log.warning("precision_fallback", wanted=wanted, served=Precision.F32)
    return Precision.F32
