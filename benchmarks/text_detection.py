"""What looking for text costs in the running system: while a scanner earns trust, once it has it, and with detection off.

Run: ``python benchmarks/text_detection.py [instances]``. One embedded system; its anonymizer is started again with other
settings between the phases, and the first phase comes again at the end: the difference of the two says how much the machine
itself varied.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from end_to_end import COMMAND, IDLE_PAUSE_S, MIB, Memory, Results, send, store, system
from fetalmlops.domain.simulation import SCANNERS, StudySpec, make_study
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.platform.settings import Settings

NEVER = 100_000
CHECKED = 50
IDLE = 20
WARM_UP = 12


@dataclass(frozen=True)
class Phase:
    """Settings of the anonymizer, and how much is sent under them."""

    name: str
    toml: str
    instances: int


def phases(instances: int) -> list[Phase]:
    """Return the phases in order: what a scanner earns in the second counts in the third."""
    off = Phase("off", "text_detection = false", instances)
    return [
        off,
        Phase("earning trust", f"text_detection = true\ntrust_clean_images = {NEVER}", min(CHECKED, instances)),
        Phase("trusted", "text_detection = true", instances),
        Phase("off again", off.toml, instances),
    ]


def write(instances: int, seed: int, folder: Path) -> list[Path]:
    """Write one study, all of them of one scanner; return its files."""
    folder.mkdir()
    files = []
    for number, instance in enumerate(make_study(StudySpec(seed=seed, instances=instances, scanner=SCANNERS[0]))):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(instance.data)
    return files


def restart(home: Path, toml: str) -> Settings:
    """Start the anonymizer again with other settings."""
    # A deadline that only a busy machine needs: what is parked would be measured with the keeper's pauses.
    (home / "fetalmlops.toml").write_text(f"[stream]\ndeadline_s = 120\n\n[anonymizer]\n{toml}\n")
    environment = {**os.environ, "FETALMLOPS_HOME": str(home)}
    for verb in ("down", "up"):
        subprocess.run([COMMAND, verb, "anonymizer"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return load_settings(home)


def anonymizer_pid(home: Path) -> int:
    """Return the process id of the anonymizer that runs now."""
    environment = {**os.environ, "FETALMLOPS_HOME": str(home)}
    status = subprocess.run([COMMAND, "status", "--json"], env=environment, check=True, capture_output=True)
    return next(process["pid"] for process in json.loads(status.stdout)["processes"] if process["name"] == "anonymizer")


def latencies(files: list[Path], settings: Settings, results: Results) -> list[float]:
    """Return the milliseconds from C-STORE response to result, one instance at a time."""
    times = []
    for path in files:
        before = len(results.arrived)
        responded = store([path], settings)
        times.append((results.wait_for(before + 1) - responded) * 1e3)
        time.sleep(IDLE_PAUSE_S)
    return sorted(times)


def measure(phase: Phase, seed: int, home: Path, results: Results, folder: Path) -> None:
    """Print a line of the table."""
    settings = restart(home, phase.toml)
    memory = Memory({"anonymizer": anonymizer_pid(home)})
    files = write(WARM_UP + phase.instances + IDLE, seed, folder / str(seed))
    warm_up, rated, idle = files[:WARM_UP], files[WARM_UP:-IDLE], files[-IDLE:]
    first_ms = latencies(warm_up[:1], settings, results)[0]
    latencies(warm_up[1:], settings, results)
    before, began = len(results.arrived), time.monotonic()
    send(rated, settings.listener.port, settings.listener.ae_title)
    rate = len(rated) / (results.wait_for(before + len(rated)) - began)
    times = latencies(idle, settings, results)
    print(
        f"{phase.name:<16}{len(rated):>10}{rate:>12.1f}{first_ms:>12.0f}{statistics.median(times):>12.0f}"
        f"{times[int(0.95 * len(times))]:>12.0f}{memory.most['anonymizer'] / MIB:>16.0f}",
        flush=True,
    )


def main(instances: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="fetalmlops-benchmark-") as temporary:
        folder = Path(temporary)
        with system(folder / "home") as (settings, _):
            results = Results(settings)
            print(
                f"{'text detection':<16}{'instances':>10}{'results/s':>12}{'first, ms':>12}{'median, ms':>12}{'95 %, ms':>12}"
                f"{'anonymizer, MiB':>16}"
            )
            for number, phase in enumerate(phases(instances)):
                measure(phase, 100 + number, folder / "home", results, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
