"""pynetdicom within bounds: what its upper layer leaves open to a peer gets an end here, in memory, time and threads.

The library reads a PDU as long as its head claims and waits for it for ever, shakes TLS hands in the thread that accepts, and
lets anyone open any number of connections. Its protocol is left as it is.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from fetalmlops.listener import metrics
from fetalmlops.listener.messages import GLANCE_S, INVALID_PDU, Messages
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    import ssl

    from pynetdicom.association import Association

    from fetalmlops.listener.messages import Begin

__all__ = ["EXTRA_CONNECTIONS", "MAX_REQUEST_BYTES", "BoundedServer"]

MAX_REQUEST_BYTES = 256 * 1024
"""Longest A-ASSOCIATE-RQ that is read: 128 contexts with all known transfer syntaxes take about half of it."""

EXTRA_CONNECTIONS = 32
"""Connections beyond the allowed associations that get as far as being told so; others are closed at once."""

_PIECE_BYTES = 64 * 1024
_THROWN_AWAY = 64
_CLOSING = "Sta13"
_log = get_logger(__name__)


class UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of one association, on a thread of its own.

    Parameters
    ----------
    assoc
        The association.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.daemon = True

    def run_reactor(self) -> None:
        """Run until the connection is closed."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the library raises on events in an order that it does not expect
            _log.warning("upper_layer_failed", error=type(error).__name__)
        finally:
            if self.assoc.requestor.primitive is None:
                # It would wait for its request until the time for that is over.
                self.to_user_queue.put(None)

    def restart_idle_timer(self) -> None:
        """Count the silence of the peer from now."""
        self._idle_timer.restart()


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """A connection that is read no further than was agreed."""

    @property
    def ready(self) -> bool:
        """Whether there is something to read now; a peer that does not wait for its answers must.

        Once we have rejected or aborted there is not: what is here is thrown away, so that the peer is not reset before it
        has read why, and the connection closes.
        """
        if self.assoc.dul.state_machine.current_state == _CLOSING:
            self._throw_away()
            return False
        if not self.assoc.dimse.msg_queue.empty():
            return False
        if not super().ready and not self.assoc.dimse.is_serving():
            # Nothing is to be sent soon: wait here, where what comes wakes us, and not a millisecond at a time.
            with suppress(OSError, ValueError, TypeError):
                select.select([self.socket], [], [], GLANCE_S)
        return bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes; fewer if the peer is gone.

        Raises
        ------
        OSError
            If they are more than was agreed, which aborts the association, or do not come in time.
        """
        agreed, allowed_s = self._agreed()
        if nr_bytes > agreed:
            self.event_queue.put(INVALID_PDU)
            msg = f"Expected a PDU of at most {agreed} bytes, got a longer one"
            raise OSError(msg)
        deadline = time.monotonic() + allowed_s
        self.socket.settimeout(allowed_s)
        data, count = bytearray(nr_bytes), 0
        with memoryview(data) as view:
            while count < nr_bytes and (got := self.socket.recv_into(view[count:])):
                count += got
                if time.monotonic() > deadline:
                    raise TimeoutError
        del data[count:]
        return data

    def _throw_away(self) -> None:
        with suppress(OSError, AttributeError):
            self.socket.setblocking(False)
            for _ in range(_THROWN_AWAY):
                if not self.socket.recv(_PIECE_BYTES):
                    return

    def _agreed(self) -> tuple[int, float]:
        """Return the longest PDU in bytes, and the time for it in seconds."""
        if self.assoc.is_established:
            return self.assoc.acceptor.maximum_length, self.assoc.network_timeout
        return max(self.assoc.acceptor.maximum_length, MAX_REQUEST_BYTES), self.assoc.acse_timeout


class AssociationHandler(RequestHandler):  # type: ignore[misc]
    """Sees one connection to its end, on a thread of its own."""

    server: BoundedServer
    request: socket.socket

    def setup(self) -> None:
        """Prepare the connection: here, where a peer that is slow to shake hands keeps nobody waiting."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.settimeout(self.server.ae.acse_timeout)
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)

    def handle(self) -> None:
        """Run the association, and leave nothing of it behind."""
        assoc = self._create_association()
        assoc.dul = UpperLayer(assoc)
        assoc.acse_timeout, assoc.network_timeout = assoc.ae.acse_timeout, assoc.ae.network_timeout
        assoc.set_socket(BoundedSocket(assoc, client_socket=self.request))
        assoc.dimse = Messages(assoc, self.server.begin)
        metrics.ASSOCIATIONS_OPEN.inc()
        try:
            assoc.start()
            assoc.join()
        finally:
            self._end(assoc)
            metrics.ASSOCIATIONS_OPEN.dec()
            metrics.ASSOCIATIONS.labels(_outcome(assoc)).inc()

    def _end(self, assoc: Association) -> None:
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)
        assoc.dul.kill_dul()
        if assoc.dul.is_alive():
            assoc.dul.join()
        self.server.shutdown_request(self.request)
        assoc.dimse.close()


class BoundedServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections while there are not too many.

    Parameters
    ----------
    begin
        Makes the sinks of messages.
    tls
        TLS of the connections, if any.
    values
        As of the library's server.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *values: Any, begin: Begin, tls: ssl.SSLContext | None, **named: Any) -> None:
        self.begin = begin
        self.tls = tls
        self._serving: set[threading.Thread] = set()
        super().__init__(*values, request_handler=AssociationHandler, **named)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Return whether a connection is served at all."""
        allowed: bool = len(self._serving) < self.ae.maximum_associations + EXTRA_CONNECTIONS
        if not allowed:
            metrics.ASSOCIATIONS.labels("refused").inc()
        return allowed

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        thread = threading.current_thread()
        self._serving.add(thread)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._serving.discard(thread)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say that a connection failed: its handshake, or we."""
        metrics.ASSOCIATIONS.labels("unreadable").inc()
        if isinstance(sys.exc_info()[1], OSError):
            _log.info("connection_failed", peer=client_address[0])
        else:
            _log.exception("connection_failed", peer=client_address[0])

    def shutdown(self) -> None:
        """Accept no more connections; those that are open stay."""
        BaseServer.shutdown(self)
        self.server_close()


def _outcome(assoc: Association) -> str:
    for outcome in ("released", "rejected", "aborted"):
        if getattr(assoc, f"is_{outcome}"):
            return outcome
    return "aborted" if assoc.requestor.primitive else "unreadable"
