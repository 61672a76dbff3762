"""The canary sweep: a value of its own in every row of Table E.1-1 that a file can hold, at a depth, in an encoding."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.datadict import DicomDictionary, RepeatersDictionary

from fetalmlops.domain.deid import Deidentifier, Profile
from fetalmlops.domain.deid.rules.dates import DatePolicy
from fetalmlops.domain.deid.rules.explain import Fate, explain
from fetalmlops.domain.deid.rules.table import standard_table
from support import dicom_files as files
from support.deid import codes_for

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey

__all__ = ["DEPTHS", "ENCODINGS", "ROWS", "RUNS", "Row", "Swept", "canary", "find_leaks", "plant", "sweep"]

CANARY = "QXCANARY"
UID_ROOT = "1.2.826.0.1.3680043.10.777"
DEPTHS = (0, 1, 2, 4)
ENCODINGS = ("sequence", "unknown")
RUNS = ((0, "sequence"), *((depth, encoded) for depth in DEPTHS[1:] for encoded in ENCODINGS))
"""Every depth in every encoding; at the top level there is but one."""
NUMBERS = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "UV": 8, "SV": 8} | dict.fromkeys(
    ("OB", "OW", "OF", "OD", "OL", "OV", "UN"), 24
)
_GROUPS = {"50XXXXXX": 0x5000_3000, "60XX3000": 0x6000_3000, "60XX4000": 0x6000_4000, "PRIVATE": 0x0009_1001}
_COMMANDS = 0x0002_0000
_DATA_SETS = 0x0003_0000
_PIXELS = 0x7FE0_0010
_SEQUENCE = 0x0040_0275


@dataclass(frozen=True)
class Row:
    """One row: a tag, its representation, and the value planted there."""

    tag: int
    vr: str
    value: Any

    @property
    def text(self) -> bytes:
        """What is searched for in bytes; empty where a number is too short to be found by its bytes."""
        if self.vr == "SQ":
            return bytes(self.value[0][0x0010_0010][1])
        return b"" if self.vr in NUMBERS and NUMBERS[self.vr] < 24 else bytes(self.value)


@dataclass(frozen=True)
class Swept:
    """What one run planted and what of it came out."""

    planted: int
    leaks: tuple[str, ...]


def _vr_of(tag: int) -> str:
    """Return the representation of an attribute, LO where it is younger than the dictionary."""
    repeated = (
        value
        for name, value in RepeatersDictionary.items()
        if all(a in ("x", b) for a, b in zip(name, f"{tag:08X}", strict=True))
    )
    entry = DicomDictionary.get(tag) or next(repeated, ("LO",))
    return str(entry[0]).split(" ")[0]


def canary(number: int, vr: str) -> Any:
    """Return a value found nowhere else, valid for its representation where it has a form."""
    day = (dt.date(1901, 1, 1) + dt.timedelta(number)).strftime("%Y%m%d")
    match vr:
        case "UI":
            return f"{UID_ROOT}.{number}".encode()
        case "DA":
            return day.encode()
        case "TM":
            return f"0717{number % 60:02d}.77{number:04d}".encode()
        case "DT":
            return f"{day}071717.77{number:04d}".encode()
        case "SQ":
            return [{0x0010_0010: ("PN", f"{CANARY}^{number:04d}".encode())}]
        case _ if vr in NUMBERS:
            return f"{CANARY}{number:04d}".encode().ljust(24, b"!")[: NUMBERS[vr]]
        case _:
            return f"{CANARY}{number:04d}".encode()


def _rows() -> tuple[Row, ...]:
    tags = [_GROUPS.get(row.tag) or int(row.tag, 16) for row in standard_table().rows]
    writable = [tag for tag in tags if tag >= _COMMANDS]
    return tuple(Row(tag, _vr_of(tag), canary(number, _vr_of(tag))) for number, tag in enumerate(writable))


ROWS = _rows()
"""Every row that a file can hold: all but those of the command set (0000,xxxx), which stands in messages only."""


def plant(depth: int, encoded: str, vr: str = "") -> bytes:
    """Return an instance with every row planted; where `vr` is given, all of them say that this is what they are."""
    sample = files.make_sample()
    inside = {row.tag: (vr or row.vr, row.text if vr else row.value) for row in ROWS if row.tag >= _DATA_SETS}
    sample.meta = {row.tag: (row.vr, row.value) for row in ROWS if row.tag < _DATA_SETS}
    if depth == 0:
        sample.after = files.Encoding().dataset({tag: inside.pop(tag) for tag in sorted(inside) if tag > _PIXELS})
        sample.attributes |= inside
    else:
        sample.attributes |= wrapped(inside, depth, encoded)
    return sample.part10()


def sweep(profile: Profile, key: PseudonymKey, depth: int, encoded: str, vr: str = "") -> Swept:
    """Plant every row at a depth, de-identify, and return what came out against the profile."""
    output, _ = Deidentifier(codes_for(profile, key), profile).deidentify_bytes(plant(depth, encoded, vr))
    return Swept(len(ROWS), tuple(find_leaks(profile, output, depth)))


def wrapped(inside: dict[int, Any], depth: int, encoded: str = "sequence") -> dict[int, Any]:
    """Wrap attributes into so many sequences, written as sequences or as unknown values."""
    for _ in range(depth):
        unknown = encoded == "unknown"
        inside = {_SEQUENCE: ("UN", files.Encoding(implicit=True).items([inside])) if unknown else ("SQ", [inside])}
    return inside


def find_leaks(profile: Profile, output: bytes, depth: int) -> list[str]:
    """Return which rows have a value in an output that the profile does not let through."""
    top = pydicom.dcmread(io.BytesIO(output))
    filled = {int(element.tag): element for element in top.iterall() if element.value and not element.is_empty}
    leaks = []
    for row in ROWS:
        fate = explain(profile, row.tag).fate
        # What an option keeps, it keeps at the top level only.
        may_stay = depth == 0 and fate in (Fate.KEPT, Fate.CLEANED)
        if row.vr in ("DA", "TM", "DT"):
            kept = profile.dates is DatePolicy.FULL or (profile.dates is DatePolicy.SHIFT and row.vr == "TM")
            may_stay = may_stay and kept
        if row.text and row.text in output and not may_stay:
            leaks.append(f"({row.tag:08X}) stands in the output")
        elif row.tag in filled and fate in (Fate.REMOVED, Fate.EMPTIED):
            leaks.append(f"({row.tag:08X}) has a value in the output")
    parts = [text for text in (CANARY, UID_ROOT) if text.encode() in output]
    return leaks + [f"part of a planted value ({part}) stands in the output" for part in parts]
