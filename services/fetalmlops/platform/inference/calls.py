"""What the clients of inference share: how long to wait, and which error a status is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.platform.inference.channels import PUSHBACK_KEY, REASON_KEY, ROLE_REASON
from fetalmlops.platform.telemetry import current_traceparent

if TYPE_CHECKING:
    from fetalmlops.domain.errors import FetalMLOpsError

__all__ = ["INFERENCE", "as_error", "retry_after", "trace_metadata", "trailer"]

INFERENCE: Final = "inference"
"""Name of the inference service as a dependency."""

_LEAST_WAIT_S: Final = 0.05
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries the current trace on."""
    traceparent = current_traceparent()
    return (("traceparent", traceparent),) if traceparent else ()


def trailer(error: grpc.aio.AioRpcError, key: str) -> str:
    """Return a value of an error's trailing metadata; empty where there is none."""
    return next((str(value) for name, value in error.trailing_metadata() or () if name == key), "")


def retry_after(error: grpc.aio.AioRpcError) -> float | None:
    """Return the seconds after which an overloaded service wants to be asked again; None if asking again is no help."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    pushback = trailer(error, PUSHBACK_KEY)
    return max(_LEAST_WAIT_S, int(pushback) / 1000) if pushback.isdecimal() else None


def as_error(error: grpc.aio.AioRpcError) -> FetalMLOpsError:
    """Return the error that a status is to a stage."""
    status = error.code()
    reason = trailer(error, REASON_KEY)
    if status is grpc.StatusCode.INVALID_ARGUMENT or reason == ROLE_REASON:
        return PermanentError(str(error.details()), reason=reason or "refused")
    msg = f"Expected an answer of the inference service, got {status.name}; see its health and its log"
    return TransientError(msg, dependency=INFERENCE, everyone=status in _AWAY, retry_after_s=retry_after(error))
