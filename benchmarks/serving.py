"""Images a second served over gRPC by two processes, against the bare engine in two processes and against LitServe.

Run: ``PYTHONPATH=tests python benchmarks/serving.py [seconds] [rounds] [overload seconds]``; needs ``make .venv/.stamps/peers``
for LitServe, which is left out otherwise. In each round every side runs for so many seconds while the others are suspended;
medians over the rounds. The same network, precision and number of engine threads (two processes of one) on every side:

- engine: batches of 8 prepared frames, nothing around it. The bound of all others.
- gRPC: the service as it runs, embedded broker and all, one frame a call, or a clip of 8.
- LitServe (`_litserve_server.py`): one frame a request, raw bytes over HTTP/1.1 connections that stay open.

The load comes from this process, so it takes part of the same cores: a closed loop of 16 callers with a connection each.
Calls of one frame and HTTP requests are written to bare sockets as bytes that were made before, so that both cost it about
the same; clips go by gRPC's own client. ``load`` is its processor time an image, and ``server`` that of the side measured,
which shared cores change least.

Then the service alone is overloaded for a minute: calls at three times the rate that it answered, whatever becomes of them.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import psutil

import _grpc_socket
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.embedded import start_servers, stop_servers
from fetalmlops.platform.engines.openvino import OpenVinoEngine, supports_bf16
from fetalmlops.platform.inference.bundles import packaged_bundle
from support.load import SIDE, Outcomes, call_messages, closed_loop, open_loop, smooth_frames
from support.serving import Serving, promote_files, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLASSIFY_FRAME = "/fetalmlops.rpc.inference.v1.InferenceService/ClassifyFrame"
PROCESSES, CALLERS, BATCH, CLIP = 2, 16, 8, 8
BUNDLES = ("demonstration", "fetal-planes")
PEERS = Path(sys.prefix) / "peers" / "bin" / "python"
HERE = Path(__file__).parent
PATIENCE_S = 60.0
MIB = 1 << 20


class Side:
    """One side of the comparison: a way to make load, and the processes that answer it.

    Parameters
    ----------
    run
        Makes load for some seconds; returns images a second.
    pids
        Process ids of those that answer.
    group
        Process group to suspend while others are measured; 0 for none.
    """

    def __init__(self, run: Callable[[float], float], pids: Callable[[], list[int]], group: int = 0) -> None:
        self.run, self.pids, self.group = run, pids, group

    def measured(self, seconds: float) -> tuple[float, float, float]:
        """Return images a second, and milliseconds of processor time an image, of the servers and of the load."""
        if self.group:
            os.killpg(self.group, signal.SIGCONT)
        self.run(min(1.0, seconds))
        before, own = self._used(), time.process_time()
        started = time.perf_counter()
        rate = self.run(seconds)
        images = rate * (time.perf_counter() - started)
        server, load = self._used() - before, time.process_time() - own
        if self.group:
            os.killpg(self.group, signal.SIGSTOP)
        return rate, 1e3 * server / images, 1e3 * load / images

    def _used(self) -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.pids())


def engine_loop(bundle_name: str, precision: str) -> None:
    """Be one process of the bare engine: on each line of input, a number of seconds, print the images that were done."""
    cv2.setNumThreads(1)
    bundle = load_bundle(packaged_bundle(bundle_name))
    engine = OpenVinoEngine(bundle, threads=1, precision=Precision(precision))
    batch = prepare(smooth_frames(BATCH), bundle.manifest.input).batch
    engine.infer(batch)
    for line in sys.stdin:
        images, end = 0, time.perf_counter() + float(line)
        while time.perf_counter() < end:
            engine.infer(batch)
            images += BATCH
        print(images, flush=True)


@contextmanager
def bare_engine(bundle_name: str, precision: str) -> Iterator[Side]:
    """Start the processes of the bare engine."""
    command = [sys.executable, __file__, "--engine", bundle_name, precision]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]

    def run(seconds: float) -> float:
        for process in started:
            print(seconds, file=process.stdin, flush=True)
        return sum(int(process.stdout.readline()) for process in started) / seconds

    try:
        yield Side(run, lambda: [process.pid for process in started])
    finally:
        for process in started:
            process.stdin.close()
            process.wait(20)


@contextmanager
def litserve(bundle_name: str, precision: str) -> Iterator[Side]:
    """Start LitServe with the bundle's network."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        model = Path(folder) / "model.onnx"
        model.write_bytes(load_bundle(packaged_bundle(bundle_name)).network(Precision(precision)))
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = {"port": port, "model": model, "precision": precision, "workers": PROCESSES, "batch": BATCH}
        command = [str(PEERS), str(HERE / "_litserve_server.py")]
        command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_for_http(f"http://127.0.0.1:{port}/health")
            frame = smooth_frames(1).tobytes()
            yield Side(
                lambda seconds: asyncio.run(http_loop(port, frame, seconds)),
                lambda: [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))],
                process.pid,
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def wait_for_http(url: str) -> None:
    """Wait until a server answers 200."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise TimeoutError(url)


async def http_loop(port: int, frame: bytes, seconds: float) -> float:
    """Post frames in a closed loop over connections that stay open; return answers a second."""
    kind = f"Content-Type: application/octet-stream\r\nContent-Length: {len(frame)}"
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n"
    request = head.encode() + frame
    answered, began = 0, time.perf_counter()

    async def post() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - began < seconds:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(answer)
            lengths = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0].partition(b":")[2]))
            answered += 1
        writer.close()

    await asyncio.gather(*(post() for _ in range(CALLERS)))
    return answered / (time.perf_counter() - began)


def grpc_side(service: Serving, frames: int) -> Side:
    """Return our service as a side, with so many frames a call."""
    messages, target = call_messages(smooth_frames(frames)), service.target
    pids = list(service.pids.values())
    port = int(target.rpartition(":")[2])

    def run_frames(seconds: float) -> float:
        return asyncio.run(
            _grpc_socket.closed_loop(
                port, CLASSIFY_FRAME, messages[0], callers=CALLERS, seconds=seconds, processes=PROCESSES
            )
        )

    def run_clips(seconds: float) -> float:
        found = asyncio.run(closed_loop(target, messages, callers=CALLERS, seconds=seconds))
        if set(found.statuses) != {"OK"}:
            raise ConnectionError(found.statuses)
        return found.rate * frames

    return Side(run_frames if frames == 1 else run_clips, lambda: pids, service.popen.pid)


def compare(sides: dict[str, Side], seconds: float, rounds: int) -> dict[str, float]:
    """Print a row for each side and return the rates."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side.measured(seconds))
    print(f"{'':22}{'images/s':>10}{'server ms':>11}{'load ms':>9}")
    rates = {}
    for name, rows in found.items():
        rate, server, load = (statistics.median(column) for column in zip(*rows, strict=True))
        rates[name] = rate
        print(f"{name:22}{rate:>10.0f}{server:>11.2f}{load:>9.2f}")
    return rates


def overload(service: Serving, rate: float, seconds: float) -> None:
    """Print what becomes of calls at three times the rate that is answered."""
    messages = call_messages(smooth_frames(CLIP))
    processes = [psutil.Process(pid) for pid in service.pids.values()]
    print(f"before: {_resident(processes):.0f} MiB in {len(processes)} processes")

    def load(length: float) -> Outcomes:
        return asyncio.run(
            open_loop(service.target, messages, per_second=3 * rate / CLIP, seconds=length, timeout_s=2.0)
        )

    for number in range(1, 5):
        part = load(seconds / 4)
        print(
            f"overload, quarter {number}: {part.rate * CLIP:.0f} of {3 * rate:.0f} images/s answered, "
            f"p50 {part.latency(50) * 1e3:.0f} ms, p99 {part.latency(99) * 1e3:.0f} ms; {dict(part.statuses)}; "
            f"{_resident(processes):.0f} MiB"
        )


def _resident(processes: list[psutil.Process]) -> float:
    return sum(process.memory_info().rss for process in processes) / MIB


def instruction_set() -> str:
    """Return the machine and the vector instructions that decide."""
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    known = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(known)}"


def measure(bundle_name: str, precision: str, seconds: float, rounds: int, overload_s: float) -> None:
    """Print the table of one bundle."""
    home = Path(tempfile.mkdtemp(prefix="fetalmlops-serving-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        settings = start_servers(home)
        stack.callback(stop_servers, home)
        asyncio.run(promote_files(settings, packaged_bundle(bundle_name)))
        variables = {"PROCESSES": str(PROCESSES), "PRECISION": precision}
        service = stack.enter_context(
            serving(settings, **{f"FETALMLOPS_INFERENCE__{name}": value for name, value in variables.items()})
        )
        service.wait_for_all(PROCESSES)
        sides = {"engine, batch 8": stack.enter_context(bare_engine(bundle_name, precision))}
        sides |= {"gRPC, 1 frame": grpc_side(service, 1), "gRPC, clip of 8": grpc_side(service, CLIP)}
        if PEERS.exists():
            sides["LitServe, 1 frame"] = stack.enter_context(litserve(bundle_name, precision))
        for side in sides.values():
            if side.group:
                os.killpg(side.group, signal.SIGSTOP)
        manifest = load_bundle(packaged_bundle(bundle_name)).manifest
        print(f"\n{bundle_name} {manifest.version}, {precision}; {instruction_set()}; {SIDE} x {SIDE} frames")
        rates = compare(sides, seconds, rounds)
        engine = rates.pop("engine, batch 8")
        print(", ".join(f"{name}: {rate / engine:.2f} of the engine" for name, rate in rates.items()))
        if peer := rates.pop("LitServe, 1 frame", 0.0):
            print(", ".join(f"{name}: {rate / peer:.2f} times LitServe" for name, rate in rates.items()))
        os.killpg(service.popen.pid, signal.SIGCONT)
        if overload_s:
            overload(service, rates["gRPC, clip of 8"], overload_s)


def main(seconds: float, rounds: int, overload_s: float) -> None:
    """Print everything."""
    precision = "bf16" if supports_bf16() else "f32"
    if not PEERS.exists():
        print("LitServe left out: needs make .venv/.stamps/peers")
    for name in BUNDLES:
        measure(name, precision, seconds, rounds, overload_s if name == BUNDLES[-1] else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        engine_loop(*sys.argv[2:])
    else:
        given = [float(value) for value in sys.argv[1:]]
        main(*(given[:1] or [8.0]), *(int(value) for value in given[1:2] or [5]), *(given[2:3] or [60.0]))
