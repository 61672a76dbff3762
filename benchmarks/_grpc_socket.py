"""Unary gRPC calls over a bare socket, as cheap for who sends them as an HTTP/1.1 request: for fair load, and for nothing else.

It speaks the little of HTTP/2 (RFC 9113) that one call at a time on a connection needs. Each call is written as bytes that
were made before; only the stream's number changes.
"""

from __future__ import annotations

import asyncio
import struct
import time
from itertools import count
from typing import Final, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 0x1, 0x1, 0x4
_TABLE_SIZE, _INITIAL_WINDOW = 1, 4
_HEAD_BYTES: Final = 9
_FRAME_BYTES: Final = 16384
_WINDOW_BYTES: Final = 65535
_OPEN: Final = (1 << 31) - 1
_READ_BYTES: Final = 1 << 16


def _frame(kind: int, flags: int, payload: bytes, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """Return a header field that no table keeps (RFC 7541, 6.2.2)."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


class Caller:
    """A connection that makes the same call again and again.

    Parameters
    ----------
    reader, writer
        The connection.
    method
        Full name of the method, such as ``/package.Service/Method``.
    message
        The request, serialised; at most 65,530 bytes, which fit a stream's first window.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, message: bytes) -> None:
        self._reader, self._writer = reader, writer
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": "30S",
        }
        body = b"\0" + struct.pack(">I", len(message)) + message
        parts = [body[start : start + _FRAME_BYTES] for start in range(0, len(body), _FRAME_BYTES)]
        frames = [_frame(_HEADERS, _END_HEADERS, b"".join(_literal(*field) for field in fields.items()))]
        frames += [_frame(_DATA, _END_STREAM if part is parts[-1] else 0, part) for part in parts]
        self._call = bytearray(b"".join(frames))
        self._numbers = [sum(map(len, frames[:index])) + 5 for index in range(len(frames))]
        self._body_bytes = len(body)
        self._window = _WINDOW_BYTES
        self._streams = count(1, 2)
        self._buffer = b""
        self.trailers = b""
        """Trailing metadata of the last answer, as they came; gRPC's servers write texts in it as they are."""

    @classmethod
    async def open(cls, port: int, method: str, message: bytes) -> Self:
        """Return a caller with a connection of its own to a port of this machine."""
        caller = cls(*await asyncio.open_connection("127.0.0.1", port), method, message)
        settings = struct.pack(">HIHI", _TABLE_SIZE, 0, _INITIAL_WINDOW, _OPEN)
        window = _frame(_WINDOW, 0, struct.pack(">I", _OPEN - _WINDOW_BYTES))
        caller._writer.write(_PREFACE + _frame(_SETTINGS, 0, settings) + window)
        return caller

    async def call(self) -> None:
        """Make the call; raises `ConnectionError` unless a message comes back."""
        stream = next(self._streams)
        while self._window < self._body_bytes:
            await self._next()
        for position in self._numbers:
            struct.pack_into(">I", self._call, position, stream)
        self._writer.write(self._call)
        self._window -= self._body_bytes
        answered = False
        while True:
            kind, flags, number, payload = await self._next()
            answered |= kind == _DATA
            if number == stream and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                self.trailers = payload
                break
        if not answered:
            msg = "Expected a message, got a status alone"
            raise ConnectionError(msg)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _next(self) -> tuple[int, int, int, bytes]:
        """Read a frame and do what the connection needs; return its type, flags, stream and payload."""
        while len(self._buffer) < _HEAD_BYTES or len(self._buffer) < _HEAD_BYTES + self._length():
            received = await self._reader.read(_READ_BYTES)
            if not received:
                msg = "Expected a frame, got the end of the connection"
                raise ConnectionError(msg)
            self._buffer += received
        end = _HEAD_BYTES + self._length()
        kind, flags, number = struct.unpack_from(">BBI", self._buffer, 3)
        payload, self._buffer = self._buffer[_HEAD_BYTES:end], self._buffer[end:]
        if kind == _WINDOW and not number:
            self._window += struct.unpack(">I", payload)[0]
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._writer.write(_frame(kind, _ACK, payload if kind == _PING else b""))
        elif kind in (_RESET, _GOAWAY):
            msg = f"Expected an answer, got a frame of type {kind}"
            raise ConnectionError(msg)
        return kind, flags, number, payload

    def _length(self) -> int:
        return int.from_bytes(self._buffer[:3])


async def closed_loop(
    port: int, method: str, message: bytes, *, callers: int, seconds: float, processes: int = 1
) -> float:
    """Let callers call for some seconds, each again once it was answered; return answers a second.

    Parameters
    ----------
    port, method, message
        What is called.
    callers
        How many, each with a connection of its own.
    seconds
        How long.
    processes
        How many processes share the port: as many callers are given to each, as a client does that knows of them.
    """
    opened = await _open_evenly(port, method, message, callers, processes)
    answered, began = 0, time.perf_counter()

    async def call(caller: Caller) -> None:
        nonlocal answered
        while time.perf_counter() - began < seconds:
            await caller.call()
            answered += 1

    try:
        await asyncio.gather(*map(call, opened))
    finally:
        for caller in opened:
            caller.close()
    return answered / (time.perf_counter() - began)


async def _open_evenly(port: int, method: str, message: bytes, callers: int, processes: int) -> list[Caller]:
    """Open connections, which the kernel gives to any process, until each has its share."""
    found: dict[bytes, list[Caller]] = {f"{number + 1}/{processes}".encode(): [] for number in range(processes)}
    while any(len(each) < callers // processes for each in found.values()):
        caller = await Caller.open(port, method, message)
        await caller.call()
        mine = next((each for place, each in found.items() if place in caller.trailers), found[b"1/%d" % processes])
        if len(mine) < callers // processes:
            mine.append(caller)
        else:
            caller.close()
    return [caller for each in found.values() for caller in each]
