"""De-identification: instances per second and core, beside pydicom reading and writing the same bytes.

The peer does less: it reads every attribute and writes the file again, without removing or masking anything. Both go from bytes
to bytes in memory. Run with ``python benchmarks/deidentification.py``.
"""

from __future__ import annotations

import io
import time
import warnings
from typing import TYPE_CHECKING

import pydicom
from rich.console import Console
from rich.table import Table

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, Kind, make_instance
from fetalmlops.domain.simulation.pixels import Layout, Photometric

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 1.0
_JPEG = pydicom.uid.JPEGBaseline8Bit
_CINE = InstanceSpec(
    kind=Kind.ULTRASOUND_MULTIFRAME,
    frames=30,
    transfer_syntax=_JPEG,
    layout=Layout(photometric=Photometric.YBR_FULL_422),
    burn_in=BurnIn.NONE,
)
_CASES = {
    "native grey, 600x800": (InstanceSpec(), False),
    "native RGB, 600x800": (InstanceSpec(layout=Layout(photometric=Photometric.RGB)), False),
    "JPEG cine, 30 frames, of a clean source": (_CINE, True),
    "JPEG cine, 30 frames, masked": (_CINE, False),
    "comprehensive SR": (InstanceSpec(kind=Kind.COMPREHENSIVE), False),
}


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    table = Table(
        title="De-identification, one core, best of three", caption="masked frames are decoded and coded again"
    )
    for column in ("instance", "MB", "ours, ms", "ours, 1/s", "pydicom read and write, ms", "ratio"):
        table.add_column(column, justify="left" if column == "instance" else "right")
    deidentifier = Deidentifier(PseudonymKey("benchmark", bytes(32)))
    for name, (spec, clean) in _CASES.items():
        data = make_instance(spec).data
        ours = _seconds(lambda data=data, clean=clean: deidentifier.deidentify_bytes(data, source_clean=clean))
        peer = _seconds(lambda data=data: _read_and_write(data))
        figures = (len(data) / 1e6, ours * 1e3, 1 / ours, peer * 1e3, peer / ours)
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    Console().print(table)


def _read_and_write(data: bytes) -> None:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for _ in dataset.iterall():
        pass
    dataset.save_as(io.BytesIO())


def _seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds of one call, the best of three measurements."""
    return min(_measured(work) for _ in range(3))


def _measured(work: Callable[[], object]) -> float:
    begin, calls = time.process_time(), 0
    while time.process_time() - begin < _SECONDS:
        work()
        calls += 1
    return (time.process_time() - begin) / calls


if __name__ == "__main__":
    main()
