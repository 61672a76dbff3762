"""From C-STORE to the result event on one machine, with everything embedded: rate, idle latency and memory.

Run: ``python benchmarks/end_to_end.py [instances]``. dcmtk's `storescu` sends 600x800 single frames over four associations;
a Kafka subscriber sees the results. The peer is dcmtk's `storescp`, which receives the same files from the same sender and
only writes them: the ratio says what the whole way costs over the bare receipt.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from kafka import KafkaConsumer
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED
from fetalmlops.domain.simulation import InstanceSpec, Kind, StudySpec, make_instance, make_study
from fetalmlops.platform.bus import kafka_python_options
from fetalmlops.platform.dicom.storescu import Peer, send_files
from fetalmlops.platform.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = Path(sys.executable).with_name("fetalmlops")
ASSOCIATIONS = 4
STUDIES = 20
SOURCES_LOOK_S = 1.0
IDLE_INSTANCES = 60
IDLE_PAUSE_S = 0.4
CINE_FRAMES = 1000
PATIENCE_S = 300.0
MIB = 1 << 20


class Results:
    """Counts the result events of instances as they arrive, from a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = KafkaConsumer(
            INSTANCE_CLASSIFIED.name, auto_offset_reset="earliest", **kafka_python_options(settings.kafka)
        )
        self.arrived: list[float] = []
        self._more = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def wait_for(self, count: int) -> float:
        """Wait until `count` results have arrived since the start; return when the last of them did."""
        with self._more:
            if not self._more.wait_for(lambda: len(self.arrived) >= count, PATIENCE_S):
                sys.exit(f"Expected {count} results within {PATIENCE_S:.0f} s, got {len(self.arrived)}")
            return self.arrived[count - 1]

    def _run(self) -> None:
        for _ in self._consumer:
            with self._more:
                self.arrived.append(time.monotonic())
                self._more.notify_all()


class Memory:
    """The most memory that each process and its children have taken, sampled in a thread."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.most: dict[str, int] = {}
        self.most_together = 0
        threading.Thread(target=self._run, daemon=True).start()

    def forget(self) -> None:
        """Begin anew."""
        self.most, self.most_together = {}, 0

    def _run(self) -> None:
        while True:
            now = {}
            for name, process in self._processes.items():
                try:
                    now[name] = sum(item.memory_info().rss for item in (process, *process.children(recursive=True)))
                except psutil.NoSuchProcess:
                    continue
            self.most = {name: max(size, self.most.get(name, 0)) for name, size in now.items()}
            self.most_together = max(self.most_together, sum(now.values()))
            time.sleep(0.1)


@contextmanager
def system(home: Path) -> Iterator[tuple[Settings, dict[str, int]]]:
    """Run an embedded system; yield its settings and the pids of its processes.

    One image earns a scanner's trust: measured is the way of trusted scanners, with text detection on.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "fetalmlops.toml").write_text("[anonymizer]\ntrust_clean_images = 1\n")
    environment = {**os.environ, "FETALMLOPS_HOME": str(home)}
    started = time.monotonic()
    subprocess.run([COMMAND, "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
    print(f"ready after {time.monotonic() - started:.1f} s")
    try:
        status = subprocess.run([COMMAND, "status", "--json"], env=environment, check=True, capture_output=True)
        processes = json.loads(status.stdout)["processes"]
        sources = home / "sources.toml"
        sources.write_text(sources.read_text().replace('pixels = "regions"', 'pixels = "validate"'))
        time.sleep(3 * SOURCES_LOOK_S)
        yield load_settings(home), {process["name"]: process["pid"] for process in processes}
    finally:
        subprocess.run([COMMAND, "down"], env=environment, check=True, stdout=subprocess.DEVNULL)


def write(studies: int, instances: int, first: int, folder: Path) -> list[Path]:
    """Write instances of several studies; return their files."""
    folder.mkdir()
    files = []
    for seed in range(first, first + studies):
        for number, instance in enumerate(make_study(StudySpec(seed=seed, instances=instances // studies))):
            files.append(folder / f"{seed}-{number}.dcm")
            files[-1].write_bytes(instance.data)
    return files


def send(files: list[Path], port: int, called: str) -> float:
    """Send with storescu; return the seconds that it took."""
    began = time.monotonic()
    command = ("storescu", "-aet", "FETALSIM", "-aec", called, "127.0.0.1", str(port))
    senders = [
        subprocess.Popen([*command, *files[part::ASSOCIATIONS]], env={**os.environ, "TCP_NODELAY": "1"})
        for part in range(ASSOCIATIONS)
    ]
    for sender in senders:
        if sender.wait(PATIENCE_S):
            sys.exit(f"Expected storescu to send everything, got exit code {sender.returncode}")
    return time.monotonic() - began


def receive_only(files: list[Path], folder: Path) -> float:
    """Return the instances per second that storescp receives and writes."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder.mkdir()
    receiver = subprocess.Popen(["storescp", "--fork", "-od", folder, str(port)])
    try:
        for _ in range(100):
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        return len(files) / send(files, port, "ANY-SCP")
    finally:
        receiver.terminate()
        receiver.wait()


def measure_rate(name: str, files: list[Path], settings: Settings, results: Results, peer: float) -> None:
    """Print how many instances a second go all the way."""
    before, began = len(results.arrived), time.monotonic()
    sent_s = send(files, settings.listener.port, settings.listener.ae_title)
    took_s = results.wait_for(before + len(files)) - began
    rate = len(files) / took_s
    print(f"{name:<14}{len(files):>10}{len(files) / sent_s:>15.1f}{rate:>12.1f}{peer:>16.1f}{rate / peer:>8.2f}")


def store(files: list[Path], settings: Settings) -> float:
    """Send files over one association of our own; return when the last response came."""
    listener = settings.listener
    peer = Peer(host="127.0.0.1", port=listener.port, called=listener.ae_title)
    for outcome in send_files(files, peer, associations=1):
        if not outcome.stored:
            sys.exit(f"Expected success, got {outcome.summary}")
    return time.monotonic()


def measure_latency(files: list[Path], settings: Settings, results: Results) -> None:
    """Print the time from a C-STORE response to the result event at the subscriber, one instance at a time."""
    times = []
    for path in files:
        before = len(results.arrived)
        responded = store([path], settings)
        times.append((results.wait_for(before + 1) - responded) * 1e3)
        time.sleep(IDLE_PAUSE_S)
    times.sort()
    print(f"\nidle latency of {len(times)} instances, C-STORE response to result at the subscriber, ms")
    print(f"median {statistics.median(times):.0f}, 95th percentile {times[int(0.95 * len(times))]:.0f}")


def measure_cine(syntax: str, settings: Settings, results: Results, memory: Memory, folder: Path) -> None:
    """Print the memory of each stage while a long cine passes."""
    spec = InstanceSpec(study=9000, kind=Kind.ULTRASOUND_MULTIFRAME, frames=CINE_FRAMES, transfer_syntax=syntax)
    path = folder / "cine.dcm"
    path.write_bytes(make_instance(spec).data)
    memory.forget()
    before, began = len(results.arrived), time.monotonic()
    store([path], settings)
    took_s = results.wait_for(before + 1) - began
    size = path.stat().st_size / MIB
    print(f"\n{CINE_FRAMES} frames, {UID(syntax).name}, {size:.0f} MiB: result after {took_s:.1f} s; most memory, MiB")
    print("  ".join(f"{name} {size / MIB:.0f}" for name, size in memory.most.items()))


def main(instances: int) -> None:
    """Print the tables."""
    if shutil.which("storescu") is None or shutil.which("storescp") is None:
        sys.exit("Expected dcmtk's storescu and storescp on the PATH, got none; install dcmtk")
    with tempfile.TemporaryDirectory(prefix="fetalmlops-benchmark-") as temporary:
        folder = Path(temporary)
        one = write(1, instances, 100, folder / "one")
        many = write(STUDIES, instances, 200, folder / "many")
        idle = write(1, IDLE_INSTANCES, 300, folder / "idle")
        peer = receive_only(one, folder / "received")
        with system(folder / "home") as (settings, pids):
            results, memory = Results(settings), Memory(pids)
            # The first images of a scanner wait for the text detector; measured are scanners that are trusted.
            warm_up = [*idle[: IDLE_INSTANCES // 6], *one[:1], *many[:: instances // STUDIES]]
            one, many = one[1:], [path for path in many if path not in warm_up]
            send(warm_up, settings.listener.port, settings.listener.ae_title)
            results.wait_for(len(warm_up))
            print(
                f"{'600x800 in':<14}{'instances':>10}{'received/s':>15}{'results/s':>12}{'storescp/s':>16}{'ratio':>8}"
            )
            measure_rate("1 study", one, settings, results, peer)
            measure_rate(f"{STUDIES} studies", many, settings, results, peer)
            measure_latency(idle[IDLE_INSTANCES // 6 :], settings, results)
            print(f"\nmost memory of all processes together: {memory.most_together / MIB:.0f} MiB")
            for syntax in (JPEGBaseline8Bit, ExplicitVRLittleEndian):
                measure_cine(syntax, settings, results, memory, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
