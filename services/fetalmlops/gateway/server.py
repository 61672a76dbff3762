"""The HTTP server: uvicorn, with bounds for what a connection may send before its request is known."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fetalmlops.domain.errors import SettingsError
from fetalmlops.gateway.problems import MEDIA_TYPE, ProblemError, busy, problem_response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from fetalmlops.platform.settings import GatewaySettings, TlsSettings

__all__ = ["GatewayServer"]

_HEAD_BYTES: Final = 64 * 1024
_HEAD_S: Final = 10.0
_BACKLOG: Final = 256


class GatewayServer(uvicorn.Server):
    """Serves an application.

    Parameters
    ----------
    app
        The application.
    settings
        Where to listen, TLS, and how many connections to keep.
    grace_s
        Seconds that requests in work have to end.

    Raises
    ------
    SettingsError
        If the address cannot be listened on, or a certificate cannot be read.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings, *, grace_s: int) -> None:
        most = settings.max_connections
        config = uvicorn.Config(
            app,
            http=type("Protocol", (_Protocol,), {"most_connections": most}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace_s,
            **_tls(settings.tls),
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            msg = f"Expected the files of gateway.tls to be readable PEM files, got {type(error).__name__}; mend them"
            raise SettingsError(msg) from None
        super().__init__(config)
        self._socket = _listen(settings)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    async def run_until_stopped(self) -> None:
        """Serve until `stop`, then finish what is in work."""
        await self.serve([self._socket])

    def stop(self) -> None:
        """Take nothing new, and end."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def _listen(settings: GatewaySettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        msg = (
            f"Expected to listen on gateway.host {settings.host} and gateway.port {settings.port}, got {error.strerror}; "
            "set others"
        )
        raise SettingsError(msg) from None


def _tls(tls: TlsSettings) -> dict[str, Any]:
    if not tls.enabled:
        return {}
    if tls.certificate_file is None or tls.key_file is None:
        msg = "Expected gateway.tls.certificate_file and key_file of a server with TLS, got none; set both"
        raise SettingsError(msg)
    if tls.require_client_certificate and tls.ca_file is None:
        msg = "Expected gateway.tls.ca_file where client certificates are required, got none; set it"
        raise SettingsError(msg)
    return {
        "ssl_certfile": tls.certificate_file,
        "ssl_keyfile": tls.key_file,
        "ssl_ca_certs": str(tls.ca_file) if tls.ca_file else None,
        "ssl_cert_reqs": ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_NONE,
    }


class _Protocol(HttpToolsProtocol):
    """A connection: few enough of them, each with a head that is short and soon complete."""

    most_connections = 0
    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse(
                busy("busy", f"Expected at most {self.most_connections} connections, got more; try again later")
            )
            return
        self._head_timer = self.loop.call_later(_HEAD_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(_HEAD_S, self._give_up)
        super().data_received(data)
        # A chunk is bounded, so it is enough to look once it has been read: the head may have ended within it.
        if self._in_head and self._head_bytes > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                ProblemError(431, "head", "Expected a head of at most 64 KiB, got a longer one; send fewer headers")
            )

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse(ProblemError(400, "request", "Expected an HTTP/1.1 request, got another; send one"))

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._refuse(
            ProblemError(408, "slow-head", f"Expected a request within {_HEAD_S:g} s, got none; send it faster")
        )

    def _refuse(self, error: ProblemError) -> None:
        if self.transport.is_closing():
            return
        body = bytes(problem_response(error).body)
        lines = [
            f"HTTP/1.1 {error.status} ",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            "connection: close",
            *(f"{name.lower()}: {value}" for name, value in error.headers.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        self.transport.close()
