"""Refusals as problem details (RFC 9457): what was expected, what came and what to do, and never a value of the data."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from fetalmlops.domain.errors import FetalMLOpsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "ProblemError",
    "busy",
    "disconnected",
    "documented",
    "problem_response",
    "trace_id",
]

MEDIA_TYPE: Final = "application/problem+json"
"""Media type of every refusal."""

_LEAST_WAIT_S: Final = 1
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 32 * 1024**2

_MEANINGS: Final[Mapping[int, str]] = {
    401: "No key came, or one that is not known.",
    404: "There is no such resource.",
    405: "The resource does not know this method.",
    408: "The file did not arrive in time.",
    413: "The file is longer than this gateway takes.",
    415: "The media type is none that is taken, or the content is encoded.",
    422: "A parameter is not valid, or the file cannot be de-identified, decoded or classified: `reason` says why.",
    500: "A defect of this software; the log names its place.",
    503: "Too much is in work, or no model serves: try again after `Retry-After` seconds.",
}


class Problem(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    """Names the reason as a URI."""
    title: str
    """The status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What was expected, what came and what to do."""
    reason: str
    """Short lower-case word for it; more of them may come."""
    trace_id: str
    """Trace of the request; empty where there is none."""


class ProblemError(FetalMLOpsError):
    """Ends a request with a problem.

    Parameters
    ----------
    status
        HTTP status.
    reason
        Short lower-case word for it.
    detail
        What was expected, what came and what to do.
    headers
        Further headers of the answer.
    """

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def busy(reason: str, detail: str, retry_after_s: float | None = None) -> ProblemError:
    """Return the problem of a request that may be sent again, after `retry_after_s` seconds (whole ones, at least one)."""
    seconds = max(_LEAST_WAIT_S, math.ceil(retry_after_s or 0))
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, reason, detail, {"Retry-After": str(seconds)})


def disconnected() -> ProblemError:
    """Return the problem of a request whose caller has gone: nobody reads it but the log and the metrics."""
    return ProblemError(
        HTTPStatus.REQUEST_TIMEOUT, "disconnected", "Expected a caller that waits, got one that has gone"
    )


def problem_response(error: ProblemError, *, unread: bool = False) -> Response:
    """Return the answer that tells a problem.

    Parameters
    ----------
    error
        The problem.
    unread
        Whether a body is still on its way: the connection is closed then, and what arrives meanwhile is thrown away.
    """
    problem = Problem(
        type=f"urn:fetalmlops:problem:{error.reason}",
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=str(error),
        reason=error.reason,
        trace_id=trace_id(),
    )
    body = problem.model_dump_json()
    if unread:
        return _LastResponse(body, error.status, {**error.headers, "Connection": "close"}, MEDIA_TYPE)
    return Response(body, error.status, error.headers, MEDIA_TYPE)


def trace_id() -> str:
    """Return the id of the current trace, empty where there is none."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else ""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of refusals with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


class _LastResponse(Response):
    """The last answer on a connection whose caller may still be sending.

    To close at once would reset the connection, and a caller that writes would never read why.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = _LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0 and (message := await receive()).get("more_body", False):
                    left -= len(message["body"])
        await send({"type": "http.response.body", "body": b"", "more_body": False})
