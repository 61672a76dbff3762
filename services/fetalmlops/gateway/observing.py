"""One span, one line of the log and one count a request: routes and reasons, never a path, a query or a file name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind

from fetalmlops.gateway.metrics import REQUEST_SECONDS, REQUESTS
from fetalmlops.platform.telemetry import get_logger, span

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Observed", "note"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "_OTHER"
_UNMATCHED: Final = "unmatched"
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
_log = get_logger(__name__)


def note(scope: Scope, **facts: str) -> None:
    """Add facts to what is told of a request: its account, or the reason of its refusal."""
    scope.setdefault("fetalmlops", {}).update(facts)


class Observed:
    """Observes an application.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by the application, and tell about it."""
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        headers = dict(scope["headers"])
        attributes: dict[str, Any] = {"http.request.method": method, "url.scheme": scope["scheme"]}
        started, status = time.perf_counter(), 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Only the ids of the caller's trace: its `tracestate` is text that may say anything.
        with span(
            method,
            traceparent=headers.get(b"traceparent", b"").decode("latin-1"),
            kind=SpanKind.SERVER,
            attributes=attributes,
        ) as current:
            try:
                await self._app(scope, receive, observed_send)
            except Exception:  # noqa: BLE001 - the log says where
                # It has been answered with a problem already.
                _log.exception("request_failed")
            route = getattr(scope.get("route"), "path", _UNMATCHED)
            current.update_name(f"{method} {route}")
            current.set_attribute("http.route", route)
            current.set_attribute("http.response.status_code", status)
            seconds = time.perf_counter() - started
            facts = scope.get("fetalmlops", {})
            REQUESTS.labels(route, status, facts.get("reason", "")).inc()
            REQUEST_SECONDS.labels(route).observe(seconds)
            if route not in _QUIET or status >= 500:
                _log.info("answered", method=method, route=route, status=status, seconds=round(seconds, 4), **facts)
