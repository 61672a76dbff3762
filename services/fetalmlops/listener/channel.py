"""The bytes of a connection: PDUs and their fragments, read into one buffer and handed on without a copy.

Memory does not depend on what a peer claims: a PDU or fragment of any length is handed on in pieces as it arrives
(PS3.8 section 9.3).
"""

from __future__ import annotations

import struct
import time
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

__all__ = ["AbortReason", "Channel", "ConnectionLostError", "Fragment", "PduHead", "ProtocolError"]

BUFFER_BYTES = 256 * 1024
"""Size of the buffer of one connection."""

_PDU_HEAD = struct.Struct(">BxI")
_FRAGMENT_HEAD = struct.Struct(">IBB")
_FRAGMENT_OVERHEAD = 2


class AbortReason(IntEnum):
    """Reasons of an A-ABORT by the service provider (PS3.8 section 9.3.8)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class ConnectionLostError(Exception):
    """The peer is gone, or was silent for too long."""


class ProtocolError(Exception):
    """The peer broke the upper layer protocol: the association is aborted.

    Parameters
    ----------
    message
        What was expected and what came.
    reason
        Reason of the A-ABORT.
    """

    def __init__(self, message: str, reason: AbortReason = AbortReason.NOT_SPECIFIED) -> None:
        super().__init__(message)
        self.reason = reason


class PduHead(NamedTuple):
    """Type of a PDU, and the length of what follows its head, in bytes."""

    kind: int
    length: int


class Fragment(NamedTuple):
    """Head of a presentation data value (PS3.8 section 9.3.5.1 and Annex E.2): `length` is that of its data, in bytes."""

    context_id: int
    is_command: bool
    is_last: bool
    length: int


class Channel:
    """Reads from and writes to one connection.

    Parameters
    ----------
    connection
        A connected stream socket, plain or TLS.
    silence_s
        Silence, in seconds, after which the connection counts as lost.
    """

    def __init__(self, connection: socket.socket, silence_s: float) -> None:
        self._socket = connection
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self.silence_s = silence_s

    def wait(self, seconds: float) -> bool:
        """Return whether something can be read within `seconds`.

        Raises
        ------
        ConnectionLostError
            If the peer is gone.
        """
        if self._start < self._end:
            return True
        try:
            self._receive(seconds)
        except TimeoutError:
            return False
        return True

    def pdu_head(self) -> PduHead:
        """Read the head of the next PDU.

        Raises
        ------
        ConnectionLostError
            If the peer is gone or silent.
        """
        return PduHead(*_PDU_HEAD.unpack(self.read(_PDU_HEAD.size)))

    def fragment_head(self) -> tuple[Fragment, int]:
        """Read the head of a presentation data value; return it and how many bytes of the PDU it takes with its data.

        Raises
        ------
        ProtocolError
            If its length is impossible.
        ConnectionLostError
            If the peer is gone or silent.
        """
        length, context_id, control = _FRAGMENT_HEAD.unpack(self.read(_FRAGMENT_HEAD.size))
        if length < _FRAGMENT_OVERHEAD:
            msg = f"Expected a presentation data value of at least {_FRAGMENT_OVERHEAD} bytes, got a shorter one"
            raise ProtocolError(msg, AbortReason.INVALID_PARAMETER)
        fragment = Fragment(context_id, bool(control & 1), bool(control & 2), length - _FRAGMENT_OVERHEAD)
        return fragment, length + 4

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes; for short things only.

        Raises
        ------
        ConnectionLostError
            If the peer is gone or silent.
        """
        return b"".join(bytes(piece) for piece in self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield the next `count` bytes in pieces, each valid until the next one is asked for.

        Raises
        ------
        ConnectionLostError
            If the peer is gone or silent.
        """
        while count:
            if self._start == self._end:
                self._receive_or_lose()
            piece = self._buffer[self._start : min(self._end, self._start + count)]
            self._start += len(piece)
            count -= len(piece)
            yield piece

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises
        ------
        ConnectionLostError
            If the peer is gone or does not take it.
        """
        try:
            self._socket.settimeout(self.silence_s)
            self._socket.sendall(data)
        except OSError as error:
            msg = f"Expected the peer to take an answer, got {type(error).__name__}"
            raise ConnectionLostError(msg) from None

    def wait_for_close(self, seconds: float) -> None:
        """Give the peer `seconds` to close, so that it reads our last PDU (the ARTIM timer of PS3.8 section 9.1.5)."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._start = self._end
                self._receive(left)
        except (ConnectionLostError, TimeoutError):
            return

    def _receive_or_lose(self) -> None:
        try:
            self._receive(self.silence_s)
        except TimeoutError:
            msg = f"Expected the peer to go on within {self.silence_s:.0f} s, got nothing"
            raise ConnectionLostError(msg) from None

    def _receive(self, seconds: float) -> None:
        self._start = self._end = 0
        try:
            self._socket.settimeout(seconds)
            count = self._socket.recv_into(self._buffer)
        except TimeoutError:
            raise
        except OSError as error:
            msg = f"Expected the connection to last, got {type(error).__name__}"
            raise ConnectionLostError(msg) from None
        if not count:
            msg = "Expected the connection to last, got its end"
            raise ConnectionLostError(msg)
        self._end = count
