"""The HTTP endpoint of a process: ``/healthz`` (alive), ``/readyz`` (able to work) and ``/metrics`` (Prometheus).

Liveness never depends on another system: a process that waits for the broker is alive and not ready.
"""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fetalmlops import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.platform.settings import HealthSettings

__all__ = ["Health", "HealthServer"]


class Health:
    """What a process is waiting for, and how it fares. Safe to use from any thread.

    Parameters
    ----------
    process
        Name of the process.

    Attributes
    ----------
    metrics
        Makes the body of ``/metrics``; default: the metrics of this process.

    Examples
    --------
    >>> health = Health("anonymizer")
    >>> health.waiting_for("broker"); health.ready
    False
    >>> health.served_by("broker"); health.ready
    True
    """

    def __init__(self, process: str) -> None:
        self.process = process
        self.metrics: Callable[[], bytes] = generate_latest
        self._waiting: dict[str, int] = {}
        self._facts: dict[str, Any] = {}
        self._last_event_ms: int | None = None
        self._lock = threading.Lock()

    def waiting_for(self, dependency: str) -> None:
        """Say that work stands still until `dependency` is back."""
        with self._lock:
            self._waiting.setdefault(dependency, _now_ms())

    def served_by(self, dependency: str) -> None:
        """Say that `dependency` answers."""
        with self._lock:
            self._waiting.pop(dependency, None)

    def event_handled(self) -> None:
        """Say that an event was just handled."""
        self._last_event_ms = _now_ms()

    def note(self, name: str, value: str | float | None) -> None:
        """Add a fact to the report, such as the bundle that serves."""
        with self._lock:
            self._facts[name] = value

    @property
    def ready(self) -> bool:
        """Whether nothing is waited for."""
        return not self._waiting

    def report(self) -> dict[str, Any]:
        """Return the body of ``/readyz``."""
        with self._lock:
            return {
                "process": self.process,
                "pid": os.getpid(),
                "version": __version__,
                "ready": not self._waiting,
                "waiting": [{"for": name, "since_ms": since} for name, since in self._waiting.items()],
                "last_event_ms": self._last_event_ms,
                **self._facts,
            }


class HealthServer:
    """Serves a `Health` over HTTP from a thread of its own.

    Parameters
    ----------
    health
        What to report.
    settings
        Where to listen.
    """

    def __init__(self, health: Health, settings: HealthSettings) -> None:
        handler = type("Handler", (_Handler,), {"health": health})
        self._server = ThreadingHTTPServer((settings.host, settings.port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    health: Health

    def do_GET(self) -> None:
        """Answer the three paths."""
        if self.path == "/metrics":
            self._answer(200, self.health.metrics(), CONTENT_TYPE_LATEST)
        elif self.path in {"/healthz", "/readyz"}:
            report = self.health.report()
            status = 200 if report["ready"] or self.path == "/healthz" else 503
            self._answer(status, json.dumps(report).encode(), "application/json")
        else:
            self._answer(404, b"Expected /healthz, /readyz or /metrics\n", "text/plain")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep requests out of the log."""

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _now_ms() -> int:
    return round(time.time() * 1000)
