"""Association negotiation (PS3.8 section 7.1, PS3.7 Annex D): what a caller proposes, and our answer as a PDU.

pynetdicom reads and writes the negotiation's PDUs and decides the presentation contexts.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import negotiate_as_acceptor

from fetalmlops import __version__
from fetalmlops.listener.channel import AbortReason, ProtocolError
from fetalmlops.listener.contexts import supported_contexts

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "APPLICATION_CONTEXT",
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION",
    "MAX_REQUEST_BYTES",
    "RELEASE_REPLY",
    "AcceptedContext",
    "PduKind",
    "Proposal",
    "Rejection",
    "accept",
    "encode_abort",
    "encode_message",
    "encode_rejection",
    "read_request",
]

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""The DICOM Application Context Name (PS3.7 Annex A.2.1)."""

IMPLEMENTATION_CLASS_UID = "2.25.191531533984176674762499671870767078517"
"""Names this implementation in negotiations and in file meta information."""

IMPLEMENTATION_VERSION = f"FETALMLOPS_{'_'.join(__version__.split('.')[:2])}"
"""Names its version: at most 16 characters."""

MAX_REQUEST_BYTES = 256 * 1024
"""Longest A-ASSOCIATE-RQ that is read: 128 contexts with all known transfer syntaxes take about half of it."""


class PduKind(IntEnum):
    """PDU types (PS3.8 section 9.3.1)."""

    ASSOCIATE_REQUEST = 0x01
    ASSOCIATE_ACCEPT = 0x02
    ASSOCIATE_REJECT = 0x03
    DATA = 0x04
    RELEASE_REQUEST = 0x05
    RELEASE_REPLY = 0x06
    ABORT = 0x07


_SHORT_PDU = struct.Struct(">BxIxBBB")
_FRAGMENT = struct.Struct(">BxIIBB")
_LAST_COMMAND = 0b11
_PROTOCOL_VERSION_BIT = 1

RELEASE_REPLY = _SHORT_PDU.pack(PduKind.RELEASE_REPLY, 4, 0, 0, 0)
"""The A-RELEASE-RP PDU."""


class Rejection(Enum):
    """Why an association is rejected: result, source and reason of the A-ASSOCIATE-RJ (PS3.8 section 9.3.4)."""

    CALLING_AE_UNKNOWN = (1, 1, 3)
    CALLED_AE_UNKNOWN = (1, 1, 7)
    APPLICATION_CONTEXT = (1, 1, 2)
    PROTOCOL_VERSION = (1, 2, 2)
    TOO_MANY = (2, 3, 2)


class AcceptedContext(NamedTuple):
    """SOP class and transfer syntax of an accepted presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True)
class Proposal:
    """An A-ASSOCIATE-RQ; AE titles without insignificant spaces."""

    calling_ae_title: str
    called_ae_title: str
    rejection: Rejection | None
    primitive: A_ASSOCIATE


def read_request(body: bytes) -> Proposal:
    """Read the body of an A-ASSOCIATE-RQ.

    Parameters
    ----------
    body
        What follows the PDU's head.

    Raises
    ------
    ProtocolError
        If it is malformed.
    """
    pdu = A_ASSOCIATE_RQ()
    with _as_protocol_error():
        pdu.decode(struct.pack(">BxI", PduKind.ASSOCIATE_REQUEST, len(body)) + body)
        primitive = pdu.to_primitive()
        calling, called = primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()
    rejection = None
    if not pdu.protocol_version & _PROTOCOL_VERSION_BIT:
        rejection = Rejection.PROTOCOL_VERSION
    elif primitive.application_context_name != APPLICATION_CONTEXT:
        rejection = Rejection.APPLICATION_CONTEXT
    return Proposal(calling, called, rejection, primitive)


def accept(proposal: Proposal, max_pdu_bytes: int) -> tuple[bytes, dict[int, AcceptedContext]]:
    """Return the A-ASSOCIATE-AC for a proposal, and the accepted contexts by their ids.

    Parameters
    ----------
    proposal
        What is answered.
    max_pdu_bytes
        Longest PDU that we receive, in bytes; 0 for no limit.

    Raises
    ------
    ProtocolError
        If the proposal is malformed.
    """
    requested = proposal.primitive
    roles = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in requested.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
    }
    with _as_protocol_error():
        results, replies = negotiate_as_acceptor(
            requested.presentation_context_definition_list, list(supported_contexts()), roles
        )
    answer = A_ASSOCIATE()
    answer.application_context_name = APPLICATION_CONTEXT
    answer.calling_ae_title = requested.calling_ae_title
    answer.called_ae_title = requested.called_ae_title
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    answer.user_information = [*_user_information(max_pdu_bytes), *replies]
    contexts = {
        int(item.context_id): AcceptedContext(str(item.abstract_syntax), str(item.transfer_syntax[0]))
        for item in results
        if item.result == 0
    }
    return bytes(A_ASSOCIATE_AC(answer).encode()), contexts


def encode_rejection(rejection: Rejection) -> bytes:
    """Return the A-ASSOCIATE-RJ PDU of a rejection."""
    return _SHORT_PDU.pack(PduKind.ASSOCIATE_REJECT, 4, *rejection.value)


def encode_abort(reason: int) -> bytes:
    """Return the A-ABORT PDU of the service provider for a reason."""
    return _SHORT_PDU.pack(PduKind.ABORT, 4, 0, 2, reason)


def encode_message(context_id: int, command_set: bytes) -> bytes:
    """Return the P-DATA-TF PDU of a message that has a command set only."""
    head = _FRAGMENT.pack(PduKind.DATA, len(command_set) + 6, len(command_set) + 2, context_id, _LAST_COMMAND)
    return head + command_set


@contextmanager
def _as_protocol_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the library raises whatever the bytes lead it to
        msg = f"Expected an A-ASSOCIATE-RQ of PS3.8 section 9.3.2, got {type(error).__name__} while reading it"
        raise ProtocolError(msg, AbortReason.INVALID_PARAMETER) from None


def _user_information(max_pdu_bytes: int) -> list[object]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION
    return [length, implementation, version]
