"""One process a core behind one port: the parent keeps the port, the children serve.

The parent holds the port by a socket that never listens, starts a child for each process, starts again what dies, and
speaks for all of them in ``/readyz`` and ``/metrics``. A child whose parent is gone ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from fetalmlops.domain.errors import SettingsError
from fetalmlops.inference.reports import join_facts, join_metrics
from fetalmlops.platform.service import EXIT_CONFIGURATION
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fetalmlops.platform.service import Service

__all__ = ["count_processes", "main", "reserved_port"]

_PATIENCE_S: Final = 5.0
_PROBE_S: Final = 0.05
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0
_STABLE_S: Final = 30.0
_END_S: Final = 20.0
_LINE_BYTES: Final = 1 << 20
_TICK_S: Final = 1.0
_NOT_STARTED: Final = "an inference process"
_log = get_logger(__name__)


def count_processes(wanted: int) -> int:
    """Return how many processes serve: as many as wanted, or for 0 one for each core that this process may use."""
    if wanted:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def main(service: Service) -> None:
    """Serve by as many processes as the settings ask for, until asked to stop."""
    settings = service.settings.inference
    count = count_processes(settings.processes)
    if count == 1:
        # The parent of several imports neither engine nor gRPC.
        from fetalmlops.inference.process import serve
        from fetalmlops.platform.inference.channels import ALONE

        await serve(service, ALONE)
        return
    with reserved_port(settings.host, settings.port) as port:
        await _Parent(service, port, count).run()


@contextlib.contextmanager
def reserved_port(host: str, port: int, patience_s: float = _PATIENCE_S) -> Iterator[int]:
    """Keep a port for processes that share it: other programs cannot take it, and no connection ends here.

    Parameters
    ----------
    host, port
        Where; port 0 takes a free one.
    patience_s
        How long to wait for one that is held: children of a parent that was killed end a moment later.

    Raises
    ------
    SettingsError
        If another listener holds it. One that shares its port is found too, or calls would end there.
    """
    *kind, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    deadline = time.monotonic() + patience_s
    while True:
        with socket.socket(*kind) as alone, contextlib.suppress(OSError):
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()
            break
        if time.monotonic() > deadline:
            msg = f"Expected inference.port {port} to be free, got another listener; set another port"
            raise SettingsError(msg)
        time.sleep(_PROBE_S)
    with socket.socket(*kind) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(address)
        yield int(shared.getsockname()[1])


class _Parent:
    def __init__(self, service: Service, port: int, count: int) -> None:
        self._service = service
        self._waiting: set[str] = set()
        silent_ticks = math.ceil(service.settings.inference.hang_s / _TICK_S)
        self._children = [
            _Child(number, count, port, silent_ticks, service.stopping, self._tell) for number in range(1, count + 1)
        ]
        service.health.metrics = self._metrics
        service.health.note("port", port)

    async def run(self) -> None:
        self._tell()
        self._service.started()
        keeping = [asyncio.create_task(child.keep(lambda: self._ready > 0)) for child in self._children]
        stopping = asyncio.create_task(self._service.stopping.wait())
        try:
            await asyncio.wait({*keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._service.stopping.set()
            ends = await asyncio.gather(*keeping, stopping, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    @property
    def _ready(self) -> int:
        return sum(bool(child.report.get("ready")) for child in self._children)

    def _tell(self) -> None:
        """Say what the children say: able to work as soon as one of them is."""
        health, reports = self._service.health, {child.number: child.report for child in self._children}
        waiting: set[str] = set()
        if not self._ready:
            waiting = {item["for"] for report in reports.values() for item in report.get("waiting", ())} or {
                _NOT_STARTED
            }
        for dependency in waiting - self._waiting:
            health.waiting_for(dependency)
        for dependency in self._waiting - waiting:
            health.served_by(dependency)
        self._waiting = waiting
        for name, value in join_facts(reports).items():
            health.note(name, value)

    def _metrics(self) -> bytes:
        ports = {child.number: child.report.get("health_port") for child in self._children}
        return join_metrics({number: port for number, port in ports.items() if port})


class _Child:
    """One process, started again whenever it ends."""

    def __init__(
        self,
        number: int,
        count: int,
        port: int,
        silent_ticks: int,
        stopping: asyncio.Event,
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self._silent_ticks = silent_ticks
        self.report: dict[str, Any] = {}
        self._command = ("-P", "-m", "fetalmlops.inference.child", str(number), str(count))
        # Its own endpoint is for the parent alone.
        self._environment = {
            "FETALMLOPS_INFERENCE__PORT": str(port),
            "FETALMLOPS_HEALTH__HOST": "127.0.0.1",
            "FETALMLOPS_HEALTH__PORT": "0",
        }
        self._stopping = stopping
        self._changed = changed

    async def keep(self, others_serve: Callable[[], bool]) -> None:
        """Run it until asked to stop; raises `SettingsError` if it cannot start as it is set up and no other serves."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._live()
            if self._stopping.is_set():
                return
            _log.error("inference_process_ended", number=self.number, code=code)
            if code == EXIT_CONFIGURATION and not others_serve():
                msg = (
                    f"Expected inference process {self.number} to start, got one whose settings are wrong; see the log"
                )
                raise SettingsError(msg)
            pause_s = _FIRST_PAUSE_S if time.monotonic() - started > _STABLE_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _live(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *self._command, stdin=theirs.fileno(), env={**os.environ, **self._environment}
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
        reading = asyncio.create_task(self._read(reader))
        stopping = asyncio.create_task(self._stopping.wait())
        ending = asyncio.create_task(process.wait())
        await asyncio.wait({stopping, ending, reading}, return_when=asyncio.FIRST_COMPLETED)
        silent = reading.done() and not reading.exception() and reading.result()
        if not silent:
            if stopping.done() and not ending.done():
                process.send_signal(signal.SIGTERM)
            await asyncio.wait({ending}, timeout=_END_S)
        if not ending.done():
            process.kill()
        code = await ending
        writer.close()
        stopping.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)
        return code

    async def _read(self, reader: asyncio.StreamReader) -> bool:
        """Take its reports, one a line, until its end, or until it falls silent; return whether it did.

        It reports every second unless it hangs, as in a library that never gives the interpreter back. Ticks are counted, not
        time: while a machine sleeps, its children do, too.
        """
        ticks = 0
        line = asyncio.create_task(reader.readline())
        try:
            while not self.report or ticks < self._silent_ticks:
                ticks += 1
                if not (await asyncio.wait({line}, timeout=_TICK_S))[0]:
                    continue
                if not line.result().endswith(b"\n"):
                    return False
                ticks, report = 0, json.loads(line.result())
                line = asyncio.create_task(reader.readline())
                if report != self.report:
                    self.report = report
                    self._changed()
            _log.error("inference_process_silent", number=self.number, seconds=self._silent_ticks * _TICK_S)
            return True
        finally:
            line.cancel()
            self.report = {}
            self._changed()
