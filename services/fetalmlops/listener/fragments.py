"""The data transfer state of an association (PS3.8 section 9.2, Sta6), seen from the receiving side: fragments, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.listener.channel import AbortReason, ProtocolError
from fetalmlops.listener.negotiation import PduKind

if TYPE_CHECKING:
    from fetalmlops.listener.channel import Channel, Fragment

__all__ = ["FragmentReader", "PeerAbortedError", "ReleaseRequestedError"]

_SHORT_PDU_BYTES = 4


class ReleaseRequestedError(Exception):
    """The peer asks to release the association (A-RELEASE-RQ)."""


class PeerAbortedError(Exception):
    """The peer aborted the association (A-ABORT)."""


class FragmentReader:
    """Reads the fragments of P-DATA-TF PDUs.

    Parameters
    ----------
    channel
        The connection.
    max_pdu_bytes
        Longest PDU that was negotiated, in bytes; 0 for no limit.
    """

    def __init__(self, channel: Channel, max_pdu_bytes: int) -> None:
        self._channel = channel
        self._max_pdu_bytes = max_pdu_bytes
        self._left = 0

    @property
    def within_pdu(self) -> bool:
        """Whether the current PDU holds another fragment."""
        return self._left > 0

    def next(self) -> Fragment:
        """Read the head of the next fragment; its data must be read from the channel before the next call.

        Raises
        ------
        ReleaseRequestedError, PeerAbortedError
            If the peer ends the association.
        ProtocolError
            If the peer breaks the protocol.
        ConnectionLostError
            If the peer is gone or silent.
        """
        while not self._left:
            self._left = self._next_pdu()
        fragment, size = self._channel.fragment_head()
        if size > self._left:
            msg = "Expected a presentation data value that ends within its PDU, got a longer one"
            raise ProtocolError(msg, AbortReason.INVALID_PARAMETER)
        self._left -= size
        return fragment

    def _next_pdu(self) -> int:
        kind, length = self._channel.pdu_head()
        if kind == PduKind.DATA:
            if self._max_pdu_bytes and length > self._max_pdu_bytes:
                msg = f"Expected a PDU of at most {self._max_pdu_bytes} bytes, got a longer one"
                raise ProtocolError(msg, AbortReason.INVALID_PARAMETER)
            return length
        if kind not in {PduKind.RELEASE_REQUEST, PduKind.ABORT}:
            known = kind in PduKind.__members__.values()
            msg = f"Expected P-DATA-TF, A-RELEASE-RQ or A-ABORT, got PDU type 0x{kind:02X}"
            raise ProtocolError(msg, AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNISED_PDU)
        if length != _SHORT_PDU_BYTES:
            msg = f"Expected a PDU of {_SHORT_PDU_BYTES} bytes after its head, got another length"
            raise ProtocolError(msg, AbortReason.INVALID_PARAMETER)
        self._channel.read(length)
        raise ReleaseRequestedError if kind == PduKind.RELEASE_REQUEST else PeerAbortedError
