"""The DICOM port: connections become associations, within limits, and are left to finish when we stop."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.listener import metrics
from fetalmlops.listener.association import Association, Ending
from fetalmlops.listener.channel import Channel
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from fetalmlops.listener.reception import Intake
    from fetalmlops.platform.settings import ListenerSettings, TlsSettings

__all__ = ["DicomServer"]

_BACKLOG = 128
_GLANCE_S = 0.5
_EXTRA_CONNECTIONS = 32
_log = get_logger(__name__)


class DicomServer:
    """Listens for associations.

    Parameters
    ----------
    intake
        What all receptions share.

    Raises
    ------
    SettingsError
        If the TLS files cannot be read.
    TransientError
        If the port is taken.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._settings = intake.settings
        self._tls = _server_context(self._settings.tls) if self._settings.tls.enabled else None
        self._socket = _listen(self._settings)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._acceptor = threading.Thread(target=self._accept_all, name="acceptor", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor.start()

    def stop(self, timeout_s: float) -> int:
        """Refuse new connections and let open associations finish.

        Parameters
        ----------
        timeout_s
            Seconds after which what is still open is cut off.

        Returns
        -------
        int
            How many were cut off.
        """
        self._stopping.set()
        self._acceptor.join()
        self._socket.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads():
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            cut_off = list(self._open.values())
        for connection in cut_off:
            _shut(connection)
        return len(cut_off)

    def _threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._open)

    def _accept_all(self) -> None:
        self._socket.settimeout(_GLANCE_S)
        while not self._stopping.is_set():
            try:
                connection, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                _log.warning("accept_failed", error=type(error).__name__)
                self._stopping.wait(_GLANCE_S)
                continue
            self._take(connection, str(address[0]))

    def _take(self, connection: socket.socket, address: str) -> None:
        with self._lock:
            count = len(self._open)
            if count >= self._settings.max_associations + _EXTRA_CONNECTIONS:
                metrics.ASSOCIATIONS.labels("refused").inc()
                connection.close()
                return
            thread = threading.Thread(
                target=self._serve,
                args=(connection, address, count >= self._settings.max_associations),
                name="association",
                daemon=True,
            )
            self._open[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket, address: str, crowded: bool) -> None:
        stream = connection
        metrics.ASSOCIATIONS_OPEN.inc()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(self._settings.acse_timeout_s)
            if self._tls is not None:
                stream = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open[threading.current_thread()] = stream
            channel = Channel(stream, self._settings.network_timeout_s)
            ending = Association(channel, address, self._intake, self._stopping, crowded=crowded).serve()
            metrics.ASSOCIATIONS.labels(ending.value).inc()
        except OSError as error:
            _log.info("connection_failed", error=type(error).__name__, peer=address)
            metrics.ASSOCIATIONS.labels(Ending.LOST.value).inc()
        except Exception:  # noqa: BLE001 - a defect ends one association, not the listener
            _log.exception("association_failed", peer=address)
            metrics.ASSOCIATIONS.labels("failed").inc()
        finally:
            metrics.ASSOCIATIONS_OPEN.dec()
            stream.close()
            with self._lock:
                self._open.pop(threading.current_thread(), None)


def _listen(settings: ListenerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        msg = f"Expected to listen on {settings.host}:{settings.port}, got {type(error).__name__}; free the port or set another"
        raise TransientError(msg, dependency="dicom-port", everyone=True) from None
    return listening


def _server_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return a context for the BCP 195 TLS profile (PS3.15 Annex B.9): TLS 1.2 or later, our certificate, perhaps theirs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if tls.certificate_file is None:
            msg = "Expected listener.tls.certificate_file for a listener with TLS, got none; set it and key_file"
            raise SettingsError(msg)
        context.load_cert_chain(tls.certificate_file, tls.key_file)
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        msg = f"Expected the files of listener.tls to be readable PEM files, got {type(error).__name__}; mend them"
        raise SettingsError(msg) from None
    if tls.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
