"""Images/s and latency of the gateway, against LitServe's HTTP with the same network, in turn in the same run.

Run with ``PYTHONPATH=tests python benchmarks/rest.py [seconds] [rounds]``; ``make bench`` does. Both get the same 600x800 JPEG
screens over the same connections from one program, and both have to share this machine with it. LitServe runs in each of its
arrangements below, in ``.venv/peers``, and is stopped while another one is measured, because its workers poll; ours is the
gateway with two children, before one inference process of one thread.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.simulation import SCANNERS, render
from support.gateway import GatewayProcess, InferenceProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
NETWORK = ROOT / "services/fetalmlops/bundles/demonstration/model.onnx"
PEER = ROOT / ".venv/peers/bin/python"
CONNECTIONS = (1, 8)
ARRANGEMENTS = {
    "LitServe, 1 worker": ("1", "1", "slow"),
    "LitServe, 2 workers": ("2", "1", "slow"),
    "LitServe, 2 workers, batches of 8": ("2", "8", "slow"),
    "LitServe, 2 workers, fast queue": ("2", "1", "fast"),
}
OURS = "the gateway"


def screens() -> list[bytes]:
    """Return JPEG files as a frame grabber saves them."""
    made = []
    for number in range(16):
        scanner = SCANNERS[number % len(SCANNERS)]
        pixels = render(PLANES[number % len(PLANES)], scanner, np.random.default_rng(number)).pixels
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        made.append(bytes(cv2.imencode(".jpg", cv2.resize(grey, (800, 600)), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]))
    return made


def request(path: str, body: bytes, media_type: str, key: str = "") -> bytes:
    """Return the bytes of a request on a connection that is kept."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Run(NamedTuple):
    """One run: answers a second, processor seconds an answer, and latencies in seconds."""

    rate: float
    cpu: float
    latencies: list[float]


class Load:
    """Sends requests over a number of connections, one at a time on each."""

    def __init__(self, port: int, requests: list[bytes], *processes: int, stopped: int = 0) -> None:
        self._port, self._requests, self._processes, self._stopped = port, requests, processes, stopped

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let a process group go on that is stopped otherwise."""
        if not self._stopped:
            yield
            return
        os.killpg(self._stopped, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self._stopped, signal.SIGSTOP)

    def run(self, connections: int, seconds: float) -> Run:
        """Return what was measured."""
        latencies: list[float] = []
        with self.awake():
            asyncio.run(self._run(connections, 0.3, []))  # caches, and what has piled up
            before = self._cpu_seconds()
            asyncio.run(self._run(connections, seconds, latencies))
            cpu = (self._cpu_seconds() - before) / len(latencies)
        return Run(len(latencies) / seconds, cpu, latencies)

    def _cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        roots = map(psutil.Process, self._processes)
        times = [each.cpu_times() for root in roots for each in (root, *root.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    async def _run(self, connections: int, seconds: float, latencies: list[float]) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(self._one(index, end, latencies) for index in range(connections)))

    async def _one(self, index: int, end: float, latencies: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while (begun := time.perf_counter()) < end:
            index += 1
            writer.write(self._requests[index % len(self._requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                sys.exit(f"Expected an answer, got {head[:200]!r}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            latencies.append(time.perf_counter() - begun)
        writer.close()


@contextmanager
def gateway(files: list[bytes]) -> Iterator[Load]:
    """Run ours."""
    with ExitStack() as stack:
        inference = InferenceProcess()
        stack.callback(inference.kill)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        process = stack.enter_context(GatewayProcess(folder, inference, TELEMETRY__LOG_LEVEL="INFO"))
        port = int(process.url.rpartition(":")[2])
        requests = [request("/v1/classifications", file, "image/jpeg", process.key) for file in files]
        yield Load(port, requests, process.process.pid, inference.process.pid)


@contextmanager
def litserve(files: list[bytes], arrangement: tuple[str, ...]) -> Iterator[Load]:
    """Run the peer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(__file__).with_name("_litserve_files.py")
    with subprocess.Popen(
        [str(PEER), str(program), str(port), str(NETWORK), *arrangement],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            _wait(port, process)
            bodies = [json.dumps({"image": base64.b64encode(file).decode()}).encode() for file in files]
            yield Load(
                port,
                [request("/predict", body, "application/json") for body in bodies],
                process.pid,
                stopped=process.pid,
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit("Expected LitServe to serve, got none; see `make .venv/.stamps/peers`")
            time.sleep(0.2)


def main(seconds: float = 3.0, rounds: int = 3) -> None:
    """Print the table."""
    files = screens()
    runs: dict[tuple[str, int], list[Run]] = {}
    with ExitStack() as stack:
        servers = {OURS: stack.enter_context(gateway(files))}
        servers |= {name: stack.enter_context(litserve(files, how)) for name, how in ARRANGEMENTS.items()}
        for load in servers.values():
            load.run(2, 1.0)
        for _ in range(rounds):
            for connections in CONNECTIONS:
                for name, load in servers.items():
                    runs.setdefault((name, connections), []).append(load.run(connections, seconds))
    sizes = f"{len(files)} JPEG files of 600x800, {np.mean([len(file) for file in files]) / 1024:.0f} KiB each"
    table = Table(title=f"{sizes}; demonstration bundle, f32; median of {rounds} rounds of {seconds:g} s")
    columns = ("server", "connections", "images/s", "ours over it", "CPU ms an image", "latency p50 ms", "p95 ms")
    for column in columns:
        table.add_column(column, justify="left" if column == "server" else "right")
    for connections in CONNECTIONS:
        ours = statistics.median(run.rate for run in runs[OURS, connections])
        for name in servers:
            mine = runs[name, connections]
            rate, cpu = (
                statistics.median(values) for values in ([run.rate for run in mine], [run.cpu for run in mine])
            )
            p50, p95 = np.percentile([took for run in mine for took in run.latencies], [50, 95]) * 1000
            table.add_row(
                name,
                str(connections),
                f"{rate:.1f}",
                f"{ours / rate:.2f}",
                f"{cpu * 1000:.1f}",
                f"{p50:.1f}",
                f"{p95:.1f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3]))
