"""Damaged instances: the same number and seed give the same bytes, in any process."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder

from support import dicom_files as files

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KINDS", "Mutant", "deep_items", "make_mutant"]

CANARY = "QXCANARY"
CANARY_UID = "1.2.826.0.1.3680043.10.777"

JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
DEEPEST = 1000
_VRS = [vr.value.encode() for vr in pydicom.valuerep.VR if len(vr.value) == 2] + [b"ZZ", b"\0\0", b"\xff\xff"]
_BYTES = (0, 1, 2, 8, 0x10, 0x28, 0x7F, 0x80, 0xE0, 0xFE, 0xFF)
_LENGTHS = (0, 1, 2, 7, 0xFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
_NUMBERS = (b"0", b"-1", b"1", b"2", b"99999", b"2147483648", b"1e9", b"NaN", b"inf", b"", b"\\", b"\0\0", b"\xff\xff")
_DECIDING = (0x0028_0002, 0x0028_0004, 0x0028_0006, 0x0028_0008, 0x0028_0010, 0x0028_0011, 0x0028_0100, 0x0028_0101,
    0x0028_0102, 0x0028_0103, 0x0018_6011, 0x0008_0016, 0x0008_0018, 0x0020_000D)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One damaged instance: its number, what it was made from, and how."""

    number: int
    kind: str
    damage: str
    data: bytes


def make_mutant(seed: int, number: int) -> Mutant:
    """Return the mutant of a number."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choice(list(KINDS))
    sample = KINDS[kind](rng)
    damages = [_change(rng, _ATTRIBUTES, sample) for _ in range(rng.choice((0, 1, 1, 2)))]
    data = bytearray(sample.part10())
    times = rng.choice((0, 0, 1, 1, 2)) if damages else rng.choice((1, 1, 1, 2, 3))
    damages += [
        _change(rng, _ENCODED, data) for _ in range(times) if data
    ]  # nothing is left to damage of an empty file
    return Mutant(number, kind, "+".join(damages), bytes(data))


def _change(rng: random.Random, ways: tuple[Callable[[random.Random, Any], None], ...], what: Any) -> str:
    way = rng.choice(ways)
    way(rng, what)
    return way.__name__.strip("_")


def _planted() -> dict[int, tuple[str, Any]]:
    inner = {0x0010_0010: ("PN", f"{CANARY}^NESTED".encode()), 0x0008_1155: ("UI", f"{CANARY_UID}.1".encode())}
    deep = {0x0040_0275: ("SQ", [inner]), 0x0010_4000: ("LT", f"seen by {CANARY}".encode())}
    return {
        0x0009_0010: ("LO", f"{CANARY} CREATOR".encode()),
        0x0009_1001: ("UN", f"{CANARY}-PRIVATE".encode()),
        0x0008_0090: ("PN", f"{CANARY}^REFERRER".encode()),
        0x0010_0010: ("PN", f"{CANARY}^PATIENT={CANARY}=x".encode()),
        0x0010_0020: ("LO", f"{CANARY}-ID".encode()),
        0x0008_0018: ("UI", f"{CANARY_UID}.2".encode()),
        0x0020_000D: ("UI", f"{CANARY_UID}.3".encode()),
        0x0020_000E: ("UI", f"{CANARY_UID}.4".encode()),
        0x0008_1030: ("LO", f"Fetal anatomy of {CANARY}".encode()),
        0x0040_0275: ("SQ", [deep, inner]),
        0x6000_0022: ("LO", f"{CANARY}-OVERLAY".encode()),
    }


def _sample(rng: random.Random, syntax: str = files.EXPLICIT, **changes: Any) -> files.Sample:
    sample = files.make_sample(syntax, **changes)
    sample.attributes |= _planted()
    sample.meta = {0x0002_0016: ("AE", CANARY.encode())}
    sample.undefined = rng.random() < 0.5
    return sample


def _native(syntax: str) -> Callable[[random.Random], files.Sample]:
    def make(rng: random.Random) -> files.Sample:
        photometric = rng.choice(("MONOCHROME2", "RGB", "YBR_FULL"))
        samples = 1 if photometric == "MONOCHROME2" else 3
        return _sample(rng, syntax, frames=rng.choice((1, 1, 2)), samples=samples, photometric=photometric)

    return make


@cache
def _jpeg_frame() -> bytes:
    done, frame = cv2.imencode(".jpg", files.speckle(files.ROWS, files.COLUMNS, 3))
    assert done
    return bytes(frame)


def _jpeg(rng: random.Random) -> files.Sample:
    sample = _sample(rng, JPEG, photometric="YBR_FULL_422", samples=3)
    frame = bytearray(_jpeg_frame())
    for _ in range(rng.randrange(7)):
        frame[rng.randrange(2, 700)] = rng.randrange(256)
    comment = f"\xff\xfe\x00\x0e{CANARY}....".encode("latin-1")
    application = f"\xff\xe5\x00\x0e{CANARY}....".encode("latin-1")
    whole = bytes(frame[:2]) + comment + application + bytes(frame[2:]) + CANARY.encode()
    sample.pixels = encapsulate([whole], has_bot=rng.random() < 0.5) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return sample


@cache
def _rle_frame() -> bytes:
    pixels = files.speckle(files.ROWS, files.COLUMNS)
    return bytes(
        RLELosslessEncoder.encode(
            pixels, rows=files.ROWS, columns=files.COLUMNS, samples_per_pixel=1, bits_allocated=8, bits_stored=8,
            pixel_representation=0, photometric_interpretation="MONOCHROME2", number_of_frames=1,
        )
    )  # fmt: skip


def _rle(rng: random.Random) -> files.Sample:
    sample = _sample(rng, RLE)
    frame = bytearray(_rle_frame())
    for _ in range(rng.randrange(5)):
        frame[rng.randrange(len(frame))] = rng.randrange(256)
    sample.pixels = encapsulate([bytes(frame)], has_bot=False) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return sample


def _report(rng: random.Random) -> files.Sample:
    sample = _sample(rng, sop_class="1.2.840.10008.5.1.4.1.1.88.33")
    sample.pixels = b""
    name = {0x0008_0100: ("SH", b"121071"), 0x0008_0102: ("SH", b"DCM"), 0x0008_0104: ("LO", CANARY.encode())}
    units = {0x0008_0100: ("SH", b"mm"), 0x0008_0102: ("SH", b"UCUM"), 0x0008_0104: ("LO", b"millimeter")}
    biparietal = {0x0008_0100: ("SH", b"11820-8"), 0x0008_0102: ("SH", b"LN"), 0x0008_0104: ("LO", b"BPD")}
    contains = {0x0040_A010: ("CS", b"CONTAINS")}
    text = contains | {0x0040_A040: ("CS", b"TEXT"), 0x0040_A043: ("SQ", [name]), 0x0040_A160: ("UT", CANARY.encode())}
    measured = {0x0040_08EA: ("SQ", [units]), 0x0040_A30A: ("DS", b"52.3")}
    number = contains | {
        0x0040_A040: ("CS", b"NUM"), 0x0040_A043: ("SQ", [biparietal]), 0x0040_A300: ("SQ", [measured]),
    }  # fmt: skip
    person = contains | {
        0x0040_A040: ("CS", b"PNAME"), 0x0040_A043: ("SQ", [name]), 0x0040_A123: ("PN", f"{CANARY}^OBSERVER".encode()),
    }  # fmt: skip
    container = contains | {0x0040_A040: ("CS", b"CONTAINER"), 0x0040_A730: ("SQ", [number, text])}
    sample.attributes |= {
        0x0008_0060: ("CS", b"SR"),
        0x0040_A040: ("CS", b"CONTAINER"),
        0x0040_A043: ("SQ", [name]),
        0x0040_A504: ("SQ", [{0x0008_0105: ("CS", b"DCMR"), 0x0040_DB00: ("CS", b"5000")}]),
        0x0040_A730: ("SQ", [container, number, text, person]),
    }
    return sample


def deep_items(tag: int, vr: str, depth: int) -> bytes:
    """Return items of undefined length nested so deep, in sequences or in unknown values, with a name at their bottom."""
    encoding = files.Encoding(implicit=vr == "UN", undefined=True)
    head = encoding.element(tag, vr, [])[: 8 if encoding.implicit else 12]
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return item + (head + item) * depth + encoding.element(0x0010_0010, "PN", CANARY.encode()) + ends * depth + ends[:8]


def _nested(rng: random.Random) -> files.Sample:
    """Nest deeper than any recursion may follow, also in the regions."""
    sample = _sample(rng)
    tag, vr = rng.choice((0x0040_0275, 0x0018_6011, 0x0040_A730, 0x0009_1002)), rng.choice(("SQ", "UN"))
    sample.attributes[tag] = (vr, deep_items(tag, vr, rng.choice((30, 33, 100, DEEPEST))))
    return sample


def _palette(rng: random.Random) -> files.Sample:
    sample = _sample(rng, photometric="PALETTE COLOR")
    sample.attributes |= {tag: ("US", files.u16(256, 0, 16)) for tag in (0x0028_1101, 0x0028_1102, 0x0028_1103)}
    ramp = (np.arange(256, dtype="<u2") * 257).tobytes()
    sample.attributes |= dict.fromkeys((2626049, 2626050, 2626051), ("OW", ramp))
    return sample


KINDS: dict[str, Callable[[random.Random], files.Sample]] = {
    "explicit": _native(files.EXPLICIT),
    "implicit": _native(files.IMPLICIT),
    "big endian": _native(files.BIG),
    "deflated": _native(files.DEFLATED),
    "jpeg": _jpeg,
    "rle": _rle,
    "report": _report,
    "nested": _nested,
    "palette": _palette,
}


def _any_tag(rng: random.Random, sample: files.Sample) -> int:
    return rng.choice(sorted(sample.attributes)) if rng.random() < 0.6 else rng.choice(_DECIDING)


def _representation(rng: random.Random, sample: files.Sample) -> None:
    tag = _any_tag(rng, sample)
    value = sample.attributes.get(tag, ("LO", b"1"))[1]
    vrs = (
        [vr for vr in _VRS if vr.decode("latin-1") in files.LONG]
        if len(value) > 60 or isinstance(value, list)
        else _VRS
    )
    sample.attributes[tag] = (rng.choice(vrs).decode("latin-1"), value)


def _value(rng: random.Random, sample: files.Sample) -> None:
    tag = _any_tag(rng, sample)
    vr = sample.attributes.get(tag, ("LO", b""))[0]
    value = rng.choice((*_NUMBERS, CANARY.encode(), rng.randbytes(rng.randrange(40)), b"\\".join(_NUMBERS)))
    sample.attributes[tag] = ("LO" if vr == "SQ" else vr, value)


def _missing(rng: random.Random, sample: files.Sample) -> None:
    sample.attributes.pop(rng.choice(sorted(sample.attributes)))


def _another_group(rng: random.Random, sample: files.Sample) -> None:
    sample.attributes[rng.randrange(0x0003_0000, 0x7FE0_0000)] = (
        rng.choice(("LO", "UN", "SQ", "OB")), f"{CANARY}-SOMEWHERE".encode(),
    )  # fmt: skip


def _wrong_items(rng: random.Random, sample: files.Sample) -> None:
    tag = rng.choice((0x0018_6011, 0x0040_0275, 0x0040_A730))
    item = files.region(*(rng.choice((0, 5, 8, 70, 79, 80, 65535, 0xFFFFFFFF)) for _ in range(4)))
    sample.attributes[tag] = ("SQ", [item | _planted()] * rng.choice((0, 1, 2, 65)))


def _overwritten(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randrange(1, 9)):
        data[_place(rng, data)] = rng.choice(_BYTES)


def _cut_short(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _piece(rng: random.Random, data: bytearray) -> None:
    start, end = _span(rng, data, 200)
    piece = bytes(data[start:end])
    data[start:end] = rng.choice((b"", piece * 2, piece[::-1], rng.randbytes(len(piece)), piece * 50))


def _length(rng: random.Random, data: bytearray) -> None:
    """Let an element lie about its length."""
    places = [at for at in range(132, min(len(data) - 12, 4000)) if data[at : at + 2] in _VRS[:-3]]
    if places:
        at = rng.choice(places)
        size, offset = rng.choice(((2, 2), (4, 4)))
        length = rng.choice(_LENGTHS) & (0xFFFF if size == 2 else 0xFFFFFFFF)
        data[at + offset : at + offset + size] = length.to_bytes(size, "little")


def _moved(rng: random.Random, data: bytearray) -> None:
    start, end = _span(rng, data, 300)
    piece = data[start:end]
    del data[start:end]
    at = rng.randrange(min(128, start), start + 1)
    data[at:at] = piece


def _noise(rng: random.Random, data: bytearray) -> None:
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.randrange(400))


def _appended(rng: random.Random, data: bytearray) -> None:
    data += rng.choice((CANARY.encode() * 3, files.Encoding().element(0xFFFC_FFFC, "OB", CANARY.encode()), bytes(3)))


def _place(rng: random.Random, data: bytearray) -> int:
    """Return a place, in the header as a rule."""
    end = len(data) if rng.random() < 0.2 else _header_end(data)
    return rng.randrange(min(128, end), end) if end > 128 else rng.randrange(max(1, end)) if end else 0


def _span(rng: random.Random, data: bytearray, longest: int) -> tuple[int, int]:
    """Return where a piece of the header is: no piece takes the head of Pixel Data along, which would make pixels of text."""
    end = _header_end(data)
    start = rng.randrange(min(128, end), end + 1)
    return start, min(end, start + rng.randrange(longest))


def _header_end(data: bytearray) -> int:
    places = [data.rfind(head) for head in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")]
    found = [place for place in places if place >= 0]
    return min([len(data), 20_000, *found])


_ATTRIBUTES = (_representation, _value, _missing, _another_group, _wrong_items)
_ENCODED = (_overwritten, _cut_short, _piece, _length, _moved, _noise, _appended)
