"""How a call to the inference service fails: errors that are not the frames' own, and the status of each error."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, NoReturn

import grpc

from fetalmlops.domain.errors import PermanentError
from fetalmlops.inference.batching import OverloadedError
from fetalmlops.inference.metrics import CALLS
from fetalmlops.platform.inference.channels import NO_MODEL_REASON, PUSHBACK_KEY, REASON_KEY
from fetalmlops.platform.telemetry import get_logger

__all__ = ["NoModelError", "PreconditionError", "Status", "abort", "status_of"]

_LEAST_PUSHBACK_S: Final = 0.05
_log = get_logger(__name__)


class PreconditionError(Exception):
    """What serves is not what the caller asked for.

    Parameters
    ----------
    message
        What was expected, what came and what to do.
    reason
        Short lower-case word for it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoModelError(Exception):
    """No bundle serves yet, or the service is going down."""

    def __init__(self) -> None:
        super().__init__("Expected a bundle that serves, got none; wait for a promotion and try again")


class Status(NamedTuple):
    """How a call ends that fails.

    Parameters
    ----------
    code, message
        Its status.
    trailers
        Trailing metadata.
    """

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str], ...] = ()


def status_of(error: Exception) -> Status:
    """Return the status that an error is to a caller."""
    match error:
        case PermanentError():
            return Status(grpc.StatusCode.INVALID_ARGUMENT, str(error), ((REASON_KEY, error.reason),))
        case PreconditionError():
            return Status(grpc.StatusCode.FAILED_PRECONDITION, str(error), ((REASON_KEY, error.reason),))
        case OverloadedError():
            pushback = str(round(1000 * max(error.retry_after_s, _LEAST_PUSHBACK_S)))
            return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), ((PUSHBACK_KEY, pushback),))
        case NoModelError():
            return Status(grpc.StatusCode.UNAVAILABLE, str(error), ((REASON_KEY, NO_MODEL_REASON),))
        case TimeoutError():
            return Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Expected to answer before the deadline, got no time left")
    _log.error("call_failed", error=type(error).__name__, exc_info=error)
    return Status(grpc.StatusCode.INTERNAL, f"Expected an answer of the model, got {type(error).__name__}; see the log")


async def abort(context: Any, status: Status, trailers: tuple[tuple[str, str], ...] = ()) -> NoReturn:
    """Count a call that fails, and end it with a status, and `trailers` beside its own."""
    CALLS.labels(status.code.name).inc()
    await context.abort(status.code, status.message, trailing_metadata=status.trailers + trailers)
    raise AssertionError
