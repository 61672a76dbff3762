"""Gives damaged instances to the de-identifier and judges what it does: refused or clean, never a crash, never a canary.

``make fuzz`` runs it over all cores, each in a process of its own whose memory is bounded. A failing input is saved.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pydicom

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import PROFILES, Deidentifier, Refusal
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.faults import Fault
from support.deid import codes_for
from support.mutants import CANARY, CANARY_UID, Mutant, make_mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Account", "Fuzzer"]

MIB = 1 << 20
GROWTH_MIB = 256
"""Most resident memory that a process may gain over all mutants."""
ADDRESSES_MIB = 2048
"""Most address space that it may gain: beyond, an allocation fails and is a failure."""
CPU_SECONDS = 20
REASONS = frozenset({*(fault.value for fault in Fault), *(refusal.value for refusal in Refusal)})
_FORBIDDEN = tuple(
    form
    for text in (CANARY, CANARY_UID)
    for form in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"), text.encode().hex().encode())
)


@dataclass
class Account:
    """What became of mutants."""

    clean: int = 0
    text_as_pixels: int = 0
    """Of the clean ones: those whose damage made pixel values of header bytes, so that the input itself states them as pixels.
    Deflated datasets carry no checksum (PS3.5 section A.5), and no rule can tell such values from others."""
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.clean + sum(self.refused.values()) + len(self.failures)


class Fuzzer:
    """Judges mutants of one seed.

    Parameters
    ----------
    seed
        Decides every mutant together with its number.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.account = Account()
        self._engines = [Deidentifier(codes_for(profile, _KEY), profile) for _, profile in sorted(PROFILES.items())]
        self._said: list[str] = []

    def judge(self, number: int) -> Mutant:
        """De-identify the mutant of a number, and note what came of it."""
        mutant = make_mutant(self.seed, number)
        fault = ""
        with self._listening():
            try:
                fault = self._fault(mutant)
            except Exception as error:
                fault = f"crash: {type(error).__name__}"
        if any(_names(text.encode("utf-8", "replace")) for text in self._said):
            fault = fault or "a canary in a log line, a warning or an exception"
        if fault:
            self.account.failures.append((number, f"{fault} ({mutant.kind}: {mutant.damage})"))
        return mutant

    def _fault(self, mutant: Mutant) -> str:
        engine = self._engines[mutant.number % len(self._engines)]
        try:
            output, _ = engine.deidentify_bytes(mutant.data, source_clean=mutant.number % 3 == 0)
        except PermanentError as error:
            self._said.append("".join(traceback.format_exception(error)))
            if error.reason not in REASONS:
                return "a reason that is not among those known"
            self.account.refused[error.reason] += 1
            return ""
        if _names(output) and not _stated_as_pixels(mutant.data, output):
            return f"a canary in the output of {engine.profile.name}"
        try:
            for _ in pydicom.dcmread(io.BytesIO(output)).iterall():
                pass
        except Exception as error:
            return f"an output that cannot be read: {type(error).__name__}"
        self.account.clean += 1
        self.account.text_as_pixels += _names(output)
        return ""

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Note all that is logged and warned of."""
        self._said.clear()
        handler = _Handler(self._said)
        logging.getLogger().addHandler(handler)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield
                self._said += [str(item.message) for item in caught]
        finally:
            logging.getLogger().removeHandler(handler)


_PIXEL_DATA = b"\xe0\x7f\x10\x00O"
_KEY = PseudonymKey("fuzz", bytes(range(32)))


class _Handler(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(0)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(logging.Formatter().format(record))


def _names(data: bytes) -> bool:
    return any(form in data for form in _FORBIDDEN)


def _stated_as_pixels(before: bytes, after: bytes) -> bool:
    """Return whether the only names in an output stand in its pixels, and so do they in the dataset that was deflated."""
    start = 144 + int.from_bytes(before[140:144], "little")
    try:
        dataset = zlib.decompressobj(-zlib.MAX_WBITS).decompress(before[start:], 64 * MIB)
    except zlib.error:
        return False
    stated, pixels = dataset.find(_PIXEL_DATA), after.find(_PIXEL_DATA)
    return stated >= 0 and _names(dataset[stated:]) and not _names(after[: pixels + 4])


# One process of the command: it tells its parent in a file which mutant it is at, so that a death names its cause.


def _work(seed: int, numbers: range, at: Path) -> None:
    fuzzer = Fuzzer(seed)
    for number in itertools.islice(itertools.count(10**9), 200):  # warm: codecs and tables are loaded
        fuzzer.judge(number)
    fuzzer.account = Account()
    before = psutil.Process().memory_info()
    resource.setrlimit(resource.RLIMIT_AS, (before.vms + ADDRESSES_MIB * MIB,) * 2)
    slowest = (0.0, -1)
    with at.open("r+b", buffering=0) as place:
        for number in numbers:
            os.pwrite(place.fileno(), number.to_bytes(8, "little"), 0)
            begin = time.process_time()
            fuzzer.judge(number)
            slowest = max(slowest, (time.process_time() - begin, number))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump(
        {
            "clean": fuzzer.account.clean,
            "text_as_pixels": fuzzer.account.text_as_pixels,
            "refused": fuzzer.account.refused,
            "failures": fuzzer.account.failures,
            "peak": peak,
            "growth": peak - before.rss,
            "slowest": slowest,
        },
        sys.stdout,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="mutants in all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed gives the same mutants")
    parser.add_argument("--start", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--save", type=Path, default=Path(tempfile.gettempdir()) / "fetalmlops-fuzz")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _start(seed: int, numbers: range, at: Path) -> subprocess.Popen[bytes]:
    at.write_bytes(numbers.start.to_bytes(8, "little"))
    command = [sys.executable, "-m", "support.fuzz", "--work", str(at), "--seed", str(seed)]
    command += ["--start", str(numbers.start), "--count", str(len(numbers))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


_PIECE = 5000
"""Mutants that one process judges: after a death the rest of its piece goes to a new one."""


def main() -> int:
    """Judge mutants over all cores; return 1 where one failed."""
    arguments = _parse()
    if arguments.work:
        _work(arguments.seed, range(arguments.start, arguments.start + arguments.count), arguments.work)
        return 0
    print(f"seed {arguments.seed}; {arguments.count} mutants over {os.cpu_count()} processes", flush=True)
    end = arguments.start + arguments.count
    pieces = [range(at, min(at + _PIECE, end)) for at in range(arguments.start, end, _PIECE)]
    reports: list[dict[str, Any]] = []
    failures: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        running: dict[Path, tuple[subprocess.Popen[bytes], range]] = {}
        names = (Path(folder) / str(number) for number in itertools.count())
        while pieces or running:
            while pieces and len(running) < (os.cpu_count() or 1):
                at = next(names)
                running[at] = (_start(arguments.seed, pieces[0], at), pieces.pop(0))
            for at, (process, numbers) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[at]
                output = process.communicate()[0]
                if process.returncode == 0:
                    reports.append(json.loads(output))
                    continue
                died = int.from_bytes(at.read_bytes(), "little")
                failures.append((died, f"death of the process: {process.returncode}"))
                # What it had judged before is judged again: a dead process tells nothing.
                pieces += [piece for piece in (range(numbers.start, died), range(died + 1, numbers.stop)) if piece]
            time.sleep(0.2)
    failures += [(number, text) for report in reports for number, text in report["failures"]]
    return _print(arguments, reports, failures)


def _print(arguments: argparse.Namespace, reports: list[dict[str, Any]], failures: list[tuple[int, str]]) -> int:
    refused: Counter[str] = sum((Counter(report["refused"]) for report in reports), Counter())
    clean = sum(report["clean"] for report in reports)
    growth = max((report["growth"] for report in reports), default=0) / MIB
    peak = max((report["peak"] for report in reports), default=0) / MIB
    slowest = max((tuple(report["slowest"]) for report in reports), default=(0.0, -1))
    print(f"clean {clean}, refused {sum(refused.values())}, failed {len(failures)}")
    print(
        f"  of the clean, header bytes that damage made pixels: {sum(report['text_as_pixels'] for report in reports)}"
    )
    for reason, count in refused.most_common():
        print(f"  refused as {reason}: {count}")
    print(f"peak resident memory {peak:.0f} MiB, {growth:.0f} MiB above the start (limit {GROWTH_MIB})")
    print(f"slowest mutant: number {slowest[1]}, {slowest[0]:.2f} CPU-seconds (limit {CPU_SECONDS})")
    for number, text in sorted(failures):
        place = arguments.save / f"{arguments.seed}-{number}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(make_mutant(arguments.seed, number).data)
        print(f"FAILED {number}: {text}; saved as {place}")
    return int(bool(failures) or growth > GROWTH_MIB or slowest[0] > CPU_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
