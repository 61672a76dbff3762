"""One of several inference processes: ``python -m fetalmlops.inference.child NUMBER COUNT``, started by its parent.

Its standard input is a socket to the parent: it reports its health there, at least every second, and ends at once when the
parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from fetalmlops.inference.process import serve
from fetalmlops.platform.inference.channels import Place
from fetalmlops.platform.service import EXIT_RETRY, run_service

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service

_LOOK_S: Final = 0.1
_REPORT_S: Final = 1.0


def main(number: int, count: int) -> None:
    """Serve as one of `count` processes until the parent asks for the end, or is gone."""
    parent = socket.socket(fileno=os.dup(0))
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()

    async def body(service: Service) -> None:
        reporting = asyncio.create_task(_report(service, parent))
        try:
            await serve(service, Place(number, count))
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    run_service("inference", body)


def _end_with(parent: socket.socket) -> None:
    with contextlib.suppress(OSError):
        parent.recv(1)
    os._exit(EXIT_RETRY)


async def _report(service: Service, parent: socket.socket) -> None:
    said, next_s = b"", 0.0
    while True:
        line = json.dumps(service.health.report()).encode() + b"\n"
        if line != said or time.monotonic() >= next_s:
            await asyncio.to_thread(parent.sendall, line)
            said, next_s = line, time.monotonic() + _REPORT_S
        await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
