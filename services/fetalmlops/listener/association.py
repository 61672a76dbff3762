"""The life of one association: negotiation, C-ECHO and C-STORE, release or abort. One thread each.

The upper layer protocol is that of PS3.8 for an acceptor; the services are Verification and Storage as SCP (PS3.4).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from fetalmlops.domain.errors import ContractError
from fetalmlops.listener import metrics
from fetalmlops.listener.channel import AbortReason, ConnectionLostError, ProtocolError
from fetalmlops.listener.command import (
    CANCEL_REQUEST,
    ECHO_REQUEST,
    STORE_REQUEST,
    Status,
    encode_response,
    read_command,
)
from fetalmlops.listener.fragments import FragmentReader, PeerAbortedError, ReleaseRequestedError
from fetalmlops.listener.negotiation import (
    MAX_REQUEST_BYTES,
    RELEASE_REPLY,
    PduKind,
    Rejection,
    accept,
    encode_abort,
    encode_message,
    encode_rejection,
    read_request,
)
from fetalmlops.listener.part10 import Head, Provenance
from fetalmlops.listener.reception import Reception
from fetalmlops.platform.telemetry import current_traceparent, get_logger, span

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from fetalmlops.domain.contracts.sources import Source
    from fetalmlops.listener.channel import Channel
    from fetalmlops.listener.command import Command
    from fetalmlops.listener.negotiation import AcceptedContext, Proposal
    from fetalmlops.listener.reception import Intake

__all__ = ["Association", "Ending"]

_COMMAND_BYTES = 64 * 1024
_GLANCE_S = 0.5
_IDLE_WHILE_STOPPING_S = 2.0
_CLOSING_S = 5.0
_SLOWEST_BYTES_PER_S = 64 * 1024
_UID_LENGTH = 64
_UID_CHARACTERS = frozenset("0123456789.")
_log = get_logger(__name__)


class Ending(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    REJECTED = "rejected"
    ABORTED = "aborted"
    ABORTED_BY_PEER = "aborted-by-peer"
    LOST = "lost"


class _StoppingError(Exception):
    """We are asked to stop, and the peer has nothing more to send."""


@dataclass(frozen=True)
class _Caller:
    """Who called, under which titles, from where, and which source that is."""

    source: Source
    calling_ae_title: str
    called_ae_title: str
    address: str


class Association:
    """Serves one connection.

    Parameters
    ----------
    channel
        The connection.
    address
        IP address of the peer.
    intake
        What all receptions share.
    stopping
        Set when no new work is to be begun.
    crowded
        Whether there are too many associations already: this one is rejected.
    """

    def __init__(
        self, channel: Channel, address: str, intake: Intake, stopping: threading.Event, *, crowded: bool = False
    ) -> None:
        self._channel = channel
        self._address = address
        self._intake = intake
        self._settings = intake.settings
        self._stopping = stopping
        self._crowded = crowded
        self._contexts: dict[int, AcceptedContext] = {}
        self._fragments = FragmentReader(channel, self._settings.max_pdu_bytes)
        self._link = ""

    def serve(self) -> Ending:
        """Serve the connection to its end; the caller closes it."""
        try:
            with span("dicom.associate", kind=SpanKind.SERVER) as current:
                caller = self._negotiate()
                self._link = current_traceparent()
                current.set_attribute("fetalmlops.source", caller.source.id if caller else "")
            if caller is None:
                self._channel.wait_for_close(_CLOSING_S)
                return Ending.REJECTED
            return self._established(caller)
        except ProtocolError as error:
            return self._abort(error.reason, str(error))
        except _StoppingError:
            return self._abort(AbortReason.NOT_SPECIFIED, "the listener stops")
        except PeerAbortedError:
            return Ending.ABORTED_BY_PEER
        except ConnectionLostError as error:
            _log.info("connection_lost", why=str(error))
            return Ending.LOST

    def _negotiate(self) -> _Caller | None:
        """Answer the A-ASSOCIATE-RQ; return the caller, or None if it was rejected."""
        self._channel.silence_s = self._settings.acse_timeout_s
        kind, length = self._channel.pdu_head()
        if kind != PduKind.ASSOCIATE_REQUEST:
            known = kind in PduKind.__members__.values()
            reason = AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNISED_PDU
            raise ProtocolError(f"Expected an A-ASSOCIATE-RQ, got PDU type 0x{kind:02X}", reason)
        if length > MAX_REQUEST_BYTES:
            msg = f"Expected an A-ASSOCIATE-RQ of at most {MAX_REQUEST_BYTES} bytes, got a longer one"
            raise ProtocolError(msg, AbortReason.INVALID_PARAMETER)
        proposal = read_request(self._channel.read(length))
        source = self._intake.sources.current().match(proposal.calling_ae_title, self._address)
        rejection = self._rejection(proposal, source)
        if rejection is not None or source is None:
            rejection = rejection or Rejection.CALLING_AE_UNKNOWN
            _log.warning("rejected", why=rejection.name.lower(), ae_title=proposal.calling_ae_title, peer=self._address)
            self._channel.send(encode_rejection(rejection))
            return None
        answer, self._contexts = accept(proposal, self._settings.max_pdu_bytes)
        self._channel.send(answer)
        self._channel.silence_s = self._settings.network_timeout_s
        return _Caller(source, proposal.calling_ae_title, proposal.called_ae_title, self._address)

    def _rejection(self, proposal: Proposal, source: Source | None) -> Rejection | None:
        if proposal.rejection is not None:
            return proposal.rejection
        if self._settings.check_called_ae_title and proposal.called_ae_title != self._settings.ae_title.strip():
            return Rejection.CALLED_AE_UNKNOWN
        if source is None:
            return Rejection.CALLING_AE_UNKNOWN
        return Rejection.TOO_MANY if self._crowded else None

    def _established(self, caller: _Caller) -> Ending:
        try:
            while True:
                self._await_message()
                context_id, command = self._read_command()
                self._serve(caller, context_id, command)
        except ReleaseRequestedError:
            self._channel.send(RELEASE_REPLY)
            self._channel.wait_for_close(_CLOSING_S)
            return Ending.RELEASED

    def _await_message(self) -> None:
        """Wait for a message; while we are stopping, not for long."""
        idle_since = time.monotonic()
        while not self._fragments.within_pdu and not self._channel.wait(_GLANCE_S):
            idle_s = time.monotonic() - idle_since
            if self._stopping.is_set() and idle_s >= _IDLE_WHILE_STOPPING_S:
                raise _StoppingError
            if idle_s >= self._settings.network_timeout_s:
                msg = f"Expected a message within {self._settings.network_timeout_s:.0f} s, got none"
                raise ProtocolError(msg)

    def _read_command(self) -> tuple[int, Command]:
        data = bytearray()
        first = fragment = self._fragments.next()
        while True:
            if not fragment.is_command or fragment.context_id != first.context_id:
                raise ProtocolError("Expected the fragments of one command set, got others in between")
            if fragment.context_id not in self._contexts:
                raise ProtocolError("Expected an accepted presentation context, got another one")
            if len(data) + fragment.length > _COMMAND_BYTES:
                raise ProtocolError(f"Expected a command set of at most {_COMMAND_BYTES} bytes, got a longer one")
            data += self._channel.read(fragment.length)
            if fragment.is_last:
                break
            fragment = self._fragments.next()
        try:
            return first.context_id, read_command(data)
        except ContractError as error:
            raise ProtocolError(str(error)) from None

    def _serve(self, caller: _Caller, context_id: int, command: Command) -> None:
        if command.field == CANCEL_REQUEST:
            return
        if command.field == STORE_REQUEST and command.dataset_follows:
            self._store(caller, context_id, command)
            return
        if command.dataset_follows:
            self._skip_dataset(context_id)
        status = Status.SUCCESS if command.field == ECHO_REQUEST else Status.UNRECOGNISED_OPERATION
        self._answer(context_id, command, status)

    def _store(self, caller: _Caller, context_id: int, command: Command) -> None:
        begun = time.perf_counter()
        context = self._contexts[context_id]
        attributes = {
            "fetalmlops.source": caller.source.id,
            "dicom.sop_class_uid": context.sop_class_uid,
            "dicom.transfer_syntax_uid": context.transfer_syntax_uid,
        }
        with span("dicom.c-store", kind=SpanKind.SERVER, links=(self._link,), attributes=attributes) as current:
            refusal = self._refusal(caller, context, command)
            if refusal is not None:
                self._skip_dataset(context_id)
                status = refusal
            else:
                head = self._head(caller, context, command)
                with Reception(self._intake, head) as reception:
                    for piece in self._dataset(context_id):
                        reception.add(piece)
                    stored = reception.finish()
                status = stored.status
                metrics.INSTANCE_BYTES.labels(caller.source.id).inc(reception.received)
                current.set_attributes(
                    {
                        "fetalmlops.instance": stored.instance,
                        "fetalmlops.resent": stored.resent,
                        "dicom.bytes": reception.received,
                    }
                )
            current.set_attribute("dicom.status", f"0x{status:04X}")
            self._answer(context_id, command, status)
        metrics.STORES.labels(caller.source.id, f"0x{status:04X}").inc()
        metrics.STORE_SECONDS.observe(time.perf_counter() - begun)
        self._intake.health.event_handled()

    def _refusal(self, caller: _Caller, context: AcceptedContext, command: Command) -> Status | None:
        """Return why a request cannot be served whatever its dataset is."""
        listed = self._intake.sources.current().match(caller.calling_ae_title, caller.address)
        if listed is None or listed.id != caller.source.id:
            return Status.NOT_AUTHORISED
        if command.sop_class_uid != context.sop_class_uid:
            return Status.SOP_CLASS_NOT_SUPPORTED
        uid = command.sop_instance_uid
        if not 0 < len(uid) <= _UID_LENGTH or not _UID_CHARACTERS.issuperset(uid):
            return Status.INVALID_INSTANCE
        return None

    def _head(self, caller: _Caller, context: AcceptedContext, command: Command) -> Head:
        came = Provenance(
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
            traceparent=current_traceparent(),
        )
        return Head(
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=context.transfer_syntax_uid,
            provenance=came,
        )

    def _dataset(self, context_id: int) -> Iterator[memoryview]:
        """Yield a message's dataset in pieces as it arrives."""
        begun, received = time.monotonic(), 0
        while True:
            fragment = self._fragments.next()
            if fragment.is_command or fragment.context_id != context_id:
                raise ProtocolError("Expected the fragments of a dataset, got others in between")
            yield from self._channel.pieces(fragment.length)
            received += fragment.length
            if fragment.is_last:
                return
            allowed_s = self._settings.dimse_timeout_s + received / _SLOWEST_BYTES_PER_S
            if time.monotonic() - begun > allowed_s:
                raise ProtocolError(f"Expected a message within {allowed_s:.0f} s, got a part of it")

    def _skip_dataset(self, context_id: int) -> None:
        for _ in self._dataset(context_id):
            pass

    def _answer(self, context_id: int, command: Command, status: Status) -> None:
        self._channel.send(encode_message(context_id, encode_response(command, status)))

    def _abort(self, reason: AbortReason, why: str) -> Ending:
        _log.warning("aborted", reason=reason.name.lower(), why=why, peer=self._address)
        try:
            self._channel.send(encode_abort(reason))
            self._channel.wait_for_close(_CLOSING_S)
        except ConnectionLostError:
            pass
        return Ending.ABORTED
