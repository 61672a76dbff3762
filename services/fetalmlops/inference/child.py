"""One of several inference processes: ``python -m fetalmlops.inference.child NUMBER COUNT``, started by its parent.

Its standard input is a socket to the parent: it reports its health there, and ends at once when the parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final

from fetalmlops.inference.process import serve
from fetalmlops.platform.inference.channels import Place
from fetalmlops.platform.service import EXIT_RETRY, run_service

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service

_REPORT_S: Final = 0.1


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
    said = b""
    while True:
        line = json.dumps(service.health.report()).encode() + b"\n"
        if line != said:
            await asyncio.to_thread(parent.sendall, line)
            said = line
        await asyncio.sleep(_REPORT_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
