"""De-identification: instances per second of one core, beside four libraries that work on the same files in the same run.

Each goes from bytes to bytes in memory, in turns on one CPU, by CPU time and the best of three rounds; none looks for text in
pixels and none writes to a disk. The libraries have an environment of their own, which ``make bench`` makes. Run with
``python benchmarks/deidentification.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, Kind, make_instance
from fetalmlops.domain.simulation.pixels import Layout, Photometric

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 0.5
_ROUNDS = 3
_REQUIRED = 1.5
_OURS = "ours"
_FLOOR = "pydicom"
_PEERS = ("dicom-anonymizer", "dicognito", "deid", "idiscore")
_PEERS_PYTHON = Path(sys.prefix) / "peers" / "bin" / "python"
_CINE = InstanceSpec(
    kind=Kind.ULTRASOUND_MULTIFRAME,
    frames=30,
    transfer_syntax=pydicom.uid.JPEGBaseline8Bit,
    layout=Layout(photometric=Photometric.YBR_FULL_422),
    burn_in=BurnIn.NONE,
)
_MASKED_CINE = "JPEG cine, masked*"
_LARGE_REPORT = "SR, 305 elements"
_CASES: dict[str, tuple[InstanceSpec | None, bool]] = {
    "grey": (InstanceSpec(), False),
    "RGB": (InstanceSpec(layout=Layout(photometric=Photometric.RGB)), False),
    "JPEG cine": (_CINE, True),
    _MASKED_CINE: (_CINE, False),
    "SR": (InstanceSpec(kind=Kind.COMPREHENSIVE), False),
    _LARGE_REPORT: (None, False),
}
_CAPTION = (
    "Frames of 600 x 800, a cine of 30, a comprehensive report; ours masks grey and RGB, no library masks anything. What is "
    "kept differs, most of all of the report: the libraries keep its free text or replace all of it. pydicom reads every "
    "attribute and writes it again. *Frames are decoded, masked and coded without loss, which no library does: not counted."
)

Figures = dict[str, dict[str, float]]


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    figures, reasons = _measure()
    table = Table(title="De-identification: instances per CPU-second of one core", caption=_CAPTION)
    for column in ("", *_CASES):
        table.add_column(column, justify="right" if column else "left")
    for name, by_case in figures.items():
        table.add_row(name, *(f"{1 / by_case[case]:.0f}" if case in by_case else "-" for case in _CASES))
    ratios = _ratios(figures)
    if ratios:
        table.add_row("ours / fastest library", *(f"{ratios[case]:.2f}" for case in _CASES))
    Console(width=110).print(table)
    for name, reason in reasons.items():
        print(f"not measured: {name}: {reason}")
    counted = [ratio for case, ratio in ratios.items() if case != _MASKED_CINE]
    if counted:
        print(f"least of the counted ratios: {min(counted):.2f} (required: {_REQUIRED})")


def _measure() -> tuple[Figures, dict[str, str]]:
    figures: Figures = {name: {} for name in (_OURS, _FLOOR, *_PEERS)}
    reasons: dict[str, str] = {}
    deidentifier = Deidentifier(PseudonymKey("benchmark", bytes(32)))
    with tempfile.TemporaryDirectory() as folder:
        places = {case: Path(folder) / f"{number}.dcm" for number, case in enumerate(_CASES)}
        for case, (spec, _) in _CASES.items():
            places[case].write_bytes(make_instance(spec).data if spec else _pydicom_report())
        for _ in range(_ROUNDS):
            for case, (_, clean) in _CASES.items():
                data = places[case].read_bytes()
                work = lambda data=data, clean=clean: deidentifier.deidentify_bytes(data, source_clean=clean)  # noqa: E731
                _note(figures[_OURS], case, _cpu_seconds(work))
            for name in (_FLOOR, *_PEERS):
                _run_peer(name, places, figures[name], reasons)
    return {name: by_case for name, by_case in figures.items() if by_case}, reasons


def _pydicom_report() -> bytes:
    return Path(str(get_testdata_file("test-SR.dcm"))).read_bytes()


def _run_peer(name: str, places: dict[str, Path], figures: dict[str, float], reasons: dict[str, str]) -> None:
    if not _PEERS_PYTHON.exists():
        reasons[name] = "the libraries are not installed; run make bench"
        return
    script = Path(__file__).with_name("_peers.py")
    command = [str(_PEERS_PYTHON), str(script), name, str(_SECONDS), *map(str, places.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reasons[name] = done.stderr.strip().splitlines()[-1]
        return
    told = json.loads(done.stdout.splitlines()[-1])
    if "missing" in told:
        reasons[name] = told["missing"]
        return
    for case, place in places.items():
        if isinstance(told[str(place)], str):
            reasons[f"{name}, {case}"] = told[str(place)]
        else:
            _note(figures, case, told[str(place)])


def _note(figures: dict[str, float], case: str, seconds: float) -> None:
    figures[case] = min(seconds, figures.get(case, seconds))


def _ratios(figures: Figures) -> dict[str, float]:
    peers = [by_case for name, by_case in figures.items() if name in _PEERS]
    fastest = {case: min(by_case[case] for by_case in peers if case in by_case) for case in _CASES if peers}
    return {case: seconds / figures[_OURS][case] for case, seconds in fastest.items()}


def _cpu_seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds of one call."""
    work()
    begin, calls = time.process_time(), 0
    while time.process_time() - begin < _SECONDS:
        work()
        calls += 1
    return (time.process_time() - begin) / calls


if __name__ == "__main__":
    main()
