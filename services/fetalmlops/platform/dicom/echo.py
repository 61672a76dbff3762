"""C-ECHO to another system (PS3.4 Annex A): is it there, and does it know us."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.sources import Source
    from fetalmlops.platform.settings import ListenerSettings

__all__ = ["echo_back"]

_TIMEOUT_S = 5.0


def echo_back(source: Source, listener: ListenerSettings) -> float:
    """Send a C-ECHO to a source under our AE title; return how long the answer took, in seconds.

    Parameters
    ----------
    source
        Whom to ask; its ``host`` and ``port``.
    listener
        Our AE title and certificates.

    Raises
    ------
    SettingsError
        If the table does not say where the source listens.
    TransientError
        If it does not answer, refuses us, or fails.
    """
    if not source.host:
        msg = f"Expected source {source.id} to have a host and a port, got none; add them to its entry in sources.toml"
        raise SettingsError(msg)
    # pynetdicom logs at ERROR what is said here in our own words.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    ae = AE(ae_title=listener.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT_S
    ae.add_requested_context(Verification)
    tls: dict[str, Any] = (
        {"tls_args": (client_ssl_context(listener.tls, "listener.tls"), source.host)} if source.tls else {}
    )
    begun = time.perf_counter()
    association = ae.associate(source.host, source.port, ae_title=source.ae_title, **tls)
    if not association.is_established:
        how = "a rejection: it does not know our AE title or address" if association.is_rejected else "no association"
        raise _failed(source, how)
    try:
        status = association.send_c_echo().get("Status")
    finally:
        association.release()
    if status != 0:
        raise _failed(source, "no answer" if status is None else f"status 0x{status:04X}")
    return time.perf_counter() - begun


def _failed(source: Source, what: str) -> TransientError:
    msg = f"Expected {source.ae_title} at {source.host}:{source.port} to answer a C-ECHO, got {what}; check it and the network"
    return TransientError(msg, dependency="source")
