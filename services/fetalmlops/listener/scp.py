"""The storage service provider: pynetdicom receives, and what it receives becomes durable before it is answered.

Verification and Storage as SCP (PS3.4 annexes A and B).
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import pydicom
from opentelemetry.trace import SpanKind
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt, register_uid
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.listener import metrics
from fetalmlops.listener.bounds import BoundedServer
from fetalmlops.listener.contexts import (
    APPLICATION_CONTEXT,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    supported_contexts,
)
from fetalmlops.listener.part10 import Head, Provenance
from fetalmlops.listener.reception import Reception
from fetalmlops.listener.statuses import Status
from fetalmlops.platform.telemetry import begin_span, current_traceparent, get_logger, span, traceparent_of, within

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from pynetdicom.dimse_messages import DIMSEMessage
    from pynetdicom.events import Event

    from fetalmlops.domain.contracts.sources import Source
    from fetalmlops.listener.messages import Begin, Messages
    from fetalmlops.listener.reception import Intake, Stored
    from fetalmlops.platform.settings import ListenerSettings, TlsSettings

__all__ = ["Abort", "Rejection", "StorageProvider"]

_IDLE_WHILE_STOPPING_S = 2.0
_GLANCE_S = 0.2
_UID_LENGTH = 64
_UID_CHARACTERS = frozenset("0123456789.")
_log = get_logger(__name__)


class Rejection(Enum):
    """Why an association is rejected: result, source and reason of the A-ASSOCIATE-RJ (PS3.8 section 9.3.4).

    The last three are the library's.
    """

    CALLING_AE_UNKNOWN = (1, 1, 3)
    APPLICATION_CONTEXT = (1, 1, 2)
    CALLED_AE_UNKNOWN = (1, 1, 7)
    PROTOCOL_VERSION = (1, 2, 2)
    TOO_MANY = (2, 3, 2)


class Abort(Enum):
    """How the library aborts: source and reason of the A-ABORT (PS3.8 section 9.3.8)."""

    BY_USER = (0, 0)
    BY_PROVIDER = (2, 0)


@dataclass(frozen=True)
class Caller:
    """Who called, under which titles, from where, and which source that is; `link` is the association's traceparent."""

    source: Source
    calling_ae_title: str
    called_ae_title: str
    address: str
    link: str


class Delivery:
    """One C-STORE: its reception and its span, which begin on the thread that reads and end on the one that answers."""

    def __init__(self, reception: Reception, source: Source, begun: Span) -> None:
        self._reception = reception
        self._source = source
        self._span = begun
        self._begun = time.perf_counter()

    def add(self, piece: bytes) -> None:
        """Take the next piece of the dataset."""
        self._reception.add(piece)

    def finish(self) -> Status:
        """Make the instance durable, announce it, and return what to answer."""
        with within(self._span):
            try:
                status = self._note(self._reception.finish())
            except Exception:  # noqa: BLE001 - a defect fails one instance, not the listener
                _log.exception("store_failed")
                status = Status.PROCESSING_FAILURE
            self._span.set_attribute("dicom.status", f"0x{status:04X}")
        metrics.STORES.labels(self._source.id, f"0x{status:04X}").inc()
        metrics.STORE_SECONDS.observe(time.perf_counter() - self._begun)
        return status

    def close(self) -> None:
        """Leave nothing behind."""
        self._reception.close()
        if self._span.is_recording():
            self._span.end()

    def _note(self, stored: Stored) -> Status:
        metrics.INSTANCE_BYTES.labels(self._source.id).inc(self._reception.received)
        self._span.set_attributes(
            {
                "fetalmlops.instance": stored.instance,
                "fetalmlops.resent": stored.resent,
                "dicom.bytes": self._reception.received,
            }
        )
        return stored.status


class StorageProvider:
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
        _set_up_library()
        self._server = _open_server(self._settings, self._handlers(), self._begin)
        self._acceptor = threading.Thread(
            target=self._server.serve_forever, args=(_GLANCE_S,), name="acceptor", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor.start()

    def stop(self, timeout_s: float) -> int:
        """Refuse new connections and let open associations finish; those on which nothing is sent are aborted.

        Parameters
        ----------
        timeout_s
            Seconds after which what is still open is cut off.

        Returns
        -------
        int
            How many were cut off.
        """
        deadline = time.monotonic() + timeout_s
        self._server.shutdown()
        self._acceptor.join()
        while (left := self._server.active_associations) and time.monotonic() < deadline:
            for assoc in left:
                if assoc.dimse.idle_s() >= _IDLE_WHILE_STOPPING_S:
                    assoc.abort(block=False)
            time.sleep(_GLANCE_S)
        for assoc in left:
            assoc.abort(block=False)
        return len(left)

    def _handlers(self) -> list[tuple[Any, Any]]:
        return [(evt.EVT_REQUESTED, self._requested), (evt.EVT_C_STORE, self._store)]

    def _requested(self, event: Event) -> None:
        """Look the caller up; who is not listed is rejected."""
        assoc, request = event.assoc, event.assoc.requestor.primitive
        calling, address = request.calling_ae_title.strip(), assoc.requestor.address
        with span("dicom.associate", kind=SpanKind.SERVER) as current:
            source = self._intake.sources.current().match(calling, address)
            current.set_attribute("fetalmlops.source", source.id if source else "")
            if source is not None and request.application_context_name == APPLICATION_CONTEXT:
                called = request.called_ae_title.strip()
                assoc.dimse.caller = Caller(source, calling, called, address, current_traceparent())
                return
        rejection = Rejection.APPLICATION_CONTEXT if source else Rejection.CALLING_AE_UNKNOWN
        _log.warning("rejected", why=rejection.name.lower(), ae_title=calling, peer=address)
        assoc.acse.send_reject(*rejection.value)
        assoc.kill()

    def _begin(self, messages: Messages, message: DIMSEMessage) -> Delivery:
        """Begin to receive the dataset of a C-STORE request."""
        caller, request = messages.caller, message.command_set
        requested = str(request.get("AffectedSOPClassUID", ""))
        # The library chooses the service by the class that the request names, and would answer a C-STORE as an echo.
        is_storage = isinstance(message, C_STORE_RQ) and uid_to_service_class(requested) is StorageServiceClass
        if not is_storage or not isinstance(caller, Caller):
            msg = f"Expected a C-STORE request of a storage class and a known caller, got {type(message).__name__}"
            raise TypeError(msg)
        context = next(item for item in messages.assoc.accepted_contexts if item.context_id == message.context_id)
        sop_class, syntax = str(context.abstract_syntax), str(context.transfer_syntax[0])
        begun = begin_span(
            "dicom.c-store",
            kind=SpanKind.SERVER,
            links=(caller.link,),
            attributes={
                "fetalmlops.source": caller.source.id,
                "dicom.sop_class_uid": sop_class,
                "dicom.transfer_syntax_uid": syntax,
            },
        )
        head = Head(
            sop_class_uid=sop_class,
            sop_instance_uid=str(request.get("AffectedSOPInstanceUID", "")),
            transfer_syntax_uid=syntax,
            provenance=self._provenance(caller, traceparent_of(begun)),
        )
        refusal = self._refusal(caller, head, requested)
        return Delivery(Reception(self._intake, head, refusal), caller.source, begun)

    def _refusal(self, caller: Caller, head: Head, sop_class_uid: str) -> Status | None:
        """Return why a request cannot be served whatever its dataset is."""
        listed = self._intake.sources.current().match(caller.calling_ae_title, caller.address)
        if listed is None or listed.id != caller.source.id:
            return Status.NOT_AUTHORISED
        if sop_class_uid != head.sop_class_uid or sop_class_uid not in STORAGE_CLASSES:
            return Status.SOP_CLASS_NOT_SUPPORTED
        uid = head.sop_instance_uid
        if not 0 < len(uid) <= _UID_LENGTH or not _UID_CHARACTERS.issuperset(uid):
            return Status.INVALID_INSTANCE
        return None

    def _provenance(self, caller: Caller, traceparent: str) -> Provenance:
        return Provenance(
            peer=caller.address,
            calling_ae_title=caller.calling_ae_title,
            called_ae_title=caller.called_ae_title,
            arrival_ms=round(time.time() * 1000),
            project=self._intake.key.project,
            key=self._intake.key.fingerprint,
            source=caller.source.id,
            site=caller.source.site,
            purpose=caller.source.purpose,
            lane=caller.source.lane,
            traceparent=traceparent,
        )

    def _store(self, event: Event) -> Dataset:
        """Answer a C-STORE request, all of whose dataset is here."""
        incoming = event.request.DataSet
        try:
            status = incoming.sink.finish()
        finally:
            incoming.drop()
        self._intake.health.event_handled()
        answer = Dataset()
        answer.Status = int(status)
        if status.comment:
            answer.ErrorComment = status.comment
        return answer


def _set_up_library() -> None:
    """Make pynetdicom know our classes, and keep it and pydicom from quoting values."""
    for uid, name in STORAGE_CLASSES.items():
        if uid_to_service_class(uid) is not StorageServiceClass:
            register_uid(uid, "".join(filter(str.isalnum, name)), StorageServiceClass)
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


def _open_server(settings: ListenerSettings, handlers: list[tuple[Any, Any]], begin: Begin) -> BoundedServer:
    entity = AE(ae_title=settings.ae_title)
    entity.supported_contexts = list(supported_contexts())
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    entity.require_called_aet = settings.check_called_ae_title
    entity.maximum_associations = settings.max_associations
    entity.maximum_pdu_size = settings.max_pdu_bytes
    entity.acse_timeout = settings.acse_timeout_s
    entity.dimse_timeout = settings.dimse_timeout_s
    entity.network_timeout = settings.network_timeout_s
    tls = _tls_context(settings.tls) if settings.tls.enabled else None
    place = (settings.host, settings.port)
    try:
        server: BoundedServer = entity.make_server(
            place, evt_handlers=handlers, server_class=BoundedServer, begin=begin, tls=tls
        )
    except OSError as error:
        msg = f"Expected to listen on {settings.host}:{settings.port}, got {type(error).__name__}; free the port or set another"
        raise TransientError(msg, dependency="dicom-port", everyone=True) from None
    return server


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
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
