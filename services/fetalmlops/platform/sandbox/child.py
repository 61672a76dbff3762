"""The child of a sandbox.

``python -m fetalmlops.platform.sandbox.child SOCKET PARENT MEMORY KEPT NICENESS TARGET [INITIALIZER]``
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.sandbox.wire import (
    EXIT_MEMORY,
    HEAD,
    Raised,
    Ready,
    Refused,
    Returned,
    Unexpected,
    encode,
    framed,
    to_raised,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PAGE = resource.getpagesize()
_STATM_BYTES = 256


def main(arguments: list[str]) -> None:
    """Serve calls until the parent closes its end, or is gone."""
    connection, parent, memory, kept, niceness = (int(value) for value in arguments[:5])
    _die_with(parent)
    os.nice(niceness)
    # A Ctrl-C or a stop of the process group is the parent's to handle: it closes the connection when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=connection) as channel:
        try:
            target = [_find(name) for name in arguments[5:]]
            for initialize in target[1:]:
                initialize()
        except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
            _send(channel, encode(Refused(f"{type(error).__name__}: {error}")))
            return
        _serve(channel, target[0], memory, kept)


def _serve(channel: socket.socket, target: Callable[..., Any], memory: int, kept: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What the libraries have mapped by now is theirs; the limit is for what calls add.
    base = _mapped()
    resource.setrlimit(resource.RLIMIT_AS, (base + memory, base + memory))
    _send(channel, encode(Ready()))
    while (request := _receive(channel)) is not None:
        try:
            reply = _call(target, request)
            # Memory that a library never gives back would count against later calls.
            retire = _mapped() > base + kept
            _send(channel, encode(msgspec.structs.replace(reply, retire=retire)))
        except MemoryError:
            os._exit(EXIT_MEMORY)


def _call(target: Callable[..., Any], request: bytearray) -> Returned | Raised | Unexpected:
    arguments = msgspec.msgpack.decode(request)
    try:
        return Returned(msgspec.Raw(encode(target(*arguments))))
    except FetalMLOpsError as error:
        return to_raised(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Unexpected(type(error).__name__, f"{Path(place.filename).name}:{place.lineno}")


def _find(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the line above
        os._exit(0)


def _mapped() -> int:
    """Return the size of this process's address space in bytes."""
    with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 - once a call, and a path takes longer
        return int(file.read(_STATM_BYTES).split()[0]) * _PAGE


def _send(channel: socket.socket, message: bytes) -> None:
    for part in framed(message):
        channel.sendall(part)


def _receive(channel: socket.socket) -> bytearray | None:
    head = _receive_exactly(channel, HEAD.size)
    return None if head is None else _receive_exactly(channel, HEAD.unpack(head)[0])


def _receive_exactly(channel: socket.socket, count: int) -> bytearray | None:
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        received = channel.recv_into(view[got:])
        if not received:
            return None
        got += received
    return data


if __name__ == "__main__":
    main(sys.argv[1:])
