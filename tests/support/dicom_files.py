"""Small ultrasound files made element by element, so that each test can make exactly the flaw that it is about."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
US_IMAGE, US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
ROWS, COLUMNS = 60, 80
REGION = (8, 10, 71, 49)
"""x0, y0, x1, y1 as DICOM states them: inclusive."""

LONG = ("OB", "OW", "SQ", "UN", "UT", "UC", "UR", "OD", "OF", "OL", "OV", "SV", "UV")


@dataclass
class Encoding:
    """How elements are written."""

    implicit: bool = False
    order: str = "<"
    undefined: bool = False
    """Whether sequences and items have undefined lengths."""

    def element(self, tag: int, vr: str, value: Any) -> bytes:
        data = self.items(value) if isinstance(value, list) else bytes(value)
        data += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(data) % 2)
        length = 0xFFFFFFFF if isinstance(value, list) and self.undefined else len(data)
        head = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return head + struct.pack(self.order + "I", length) + data
        if vr in LONG:
            return head + vr.encode() + struct.pack(self.order + "HI", 0, length) + data
        return head + vr.encode() + struct.pack(self.order + "H", length) + data

    def dataset(self, attributes: dict[int, tuple[str, Any]]) -> bytes:
        return b"".join(self.element(tag, *attributes[tag]) for tag in sorted(attributes))

    def items(self, items: list[dict[int, tuple[str, Any]]]) -> bytes:
        parts = []
        for item in items:
            data = self.dataset(item)
            length = 0xFFFFFFFF if self.undefined else len(data)
            parts.append(struct.pack(self.order + "HHI", 0xFFFE, 0xE000, length) + data)
            if self.undefined:
                parts.append(struct.pack(self.order + "HHI", 0xFFFE, 0xE00D, 0))
        if self.undefined:
            parts.append(struct.pack(self.order + "HHI", 0xFFFE, 0xE0DD, 0))
        return b"".join(parts)


ENCODINGS = {
    EXPLICIT: Encoding(),
    IMPLICIT: Encoding(implicit=True),
    BIG: Encoding(order=">"),
    DEFLATED: Encoding(),
}


@dataclass
class Sample:
    """One file to be: attributes by tag, and the value of Pixel Data as encoded."""

    attributes: dict[int, tuple[str, Any]]
    pixels: bytes = b""
    transfer_syntax: str = EXPLICIT
    preamble: bytes = bytes(128)
    meta: dict[int, tuple[str, Any]] = field(default_factory=dict)
    after: bytes = b""
    undefined: bool = False

    def part10(self) -> bytes:
        encoding = ENCODINGS[self.transfer_syntax] if self.transfer_syntax in ENCODINGS else Encoding()
        encoding = Encoding(encoding.implicit, encoding.order, self.undefined)
        meta = Encoding().dataset({0x0002_0010: ("UI", self.transfer_syntax.encode()), **self.meta})
        body = encoding.dataset(self.attributes) + self._pixel_element(encoding) + self.after
        if self.transfer_syntax == DEFLATED:
            compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            body = compressor.compress(body) + compressor.flush()
        length = Encoding().element(0x0002_0000, "UL", struct.pack("<I", len(meta)))
        return self.preamble + b"DICM" + length + meta + body

    def _pixel_element(self, encoding: Encoding) -> bytes:
        if not self.pixels:
            return b""
        if self.transfer_syntax in ENCODINGS:
            cells = self.attributes.get(0x0028_0100)
            vr = "OW" if cells and cells[1] != u16(8, order=encoding.order) else "OB"
            return encoding.element(0x7FE0_0010, vr, self.pixels)
        return struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + self.pixels

    def set(self, **numbers: int) -> Sample:
        """Set attributes of VR US by keyword."""
        tags = {"samples": 0x0028_0002, "planar": 0x0028_0006, "allocated": 0x0028_0100, "stored": 0x0028_0101}
        tags |= {"high": 0x0028_0102, "signed": 0x0028_0103, "rows": 0x0028_0010, "columns": 0x0028_0011}
        order = ENCODINGS[self.transfer_syntax].order if self.transfer_syntax in ENCODINGS else "<"
        for name, number in numbers.items():
            self.attributes[tags[name]] = ("US", u16(number, order=order))
        return self


def u16(*numbers: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(numbers)}H", *numbers)


def u32(number: int, order: str = "<") -> bytes:
    return struct.pack(order + "I", number)


def region(
    x0: int, y0: int, x1: int, y1: int, *, spatial: int = 1, order: str = "<", **extra: tuple[str, bytes]
) -> dict[int, tuple[str, Any]]:
    """Return the item of one ultrasound region, upper bounds inclusive."""
    item: dict[int, tuple[str, Any]] = {
        0x0018_6012: ("US", u16(spatial, order=order)),
        0x0018_6014: ("US", u16(1, order=order)),
        0x0018_6016: ("UL", u32(2, order)),
        0x0018_6018: ("UL", u32(x0, order)),
        0x0018_601A: ("UL", u32(y0, order)),
        0x0018_601C: ("UL", u32(x1, order)),
        0x0018_601E: ("UL", u32(y1, order)),
        0x0018_6024: ("US", u16(3, order=order)),
        0x0018_6026: ("US", u16(3, order=order)),
        0x0018_602C: ("FD", struct.pack(order + "d", 0.031)),
        0x0018_602E: ("FD", struct.pack(order + "d", 0.031)),
    }
    return item | {int(tag, 16): value for tag, value in extra.items()}


def speckle(*shape: int, seed: int = 7, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    """Return pixels none of which is black."""
    return np.random.default_rng(seed).integers(1, 200, shape, dtype=dtype)


def make_sample(
    transfer_syntax: str = EXPLICIT,
    *,
    sop_class: str = US_IMAGE,
    photometric: str = "MONOCHROME2",
    samples: int = 1,
    frames: int = 1,
    rows: int = ROWS,
    columns: int = COLUMNS,
) -> Sample:
    """Return a valid ultrasound image with one region."""
    order = ENCODINGS[transfer_syntax].order if transfer_syntax in ENCODINGS else "<"
    numbers = {0x0028_0002: samples, 0x0028_0010: rows, 0x0028_0011: columns}
    numbers |= {0x0028_0100: 8, 0x0028_0101: 8, 0x0028_0102: 7, 0x0028_0103: 0}
    attributes: dict[int, tuple[str, Any]] = {
        0x0008_0008: ("CS", b"ORIGINAL\\PRIMARY\\OBSTETRICAL\\0001"),
        0x0008_0016: ("UI", sop_class.encode()),
        0x0008_0018: ("UI", b"1.2.826.0.1.3680043.10.999.4"),
        0x0008_0020: ("DA", b"20240131"),
        0x0008_0060: ("CS", b"US"),
        0x0010_0010: ("PN", b"CANARY^PATIENT"),
        0x0010_0020: ("LO", b"CANARY-ID-1"),
        0x0018_6011: ("SQ", [region(*REGION, order=order)]),
        0x0020_000D: ("UI", b"1.2.826.0.1.3680043.10.999.2"),
        0x0020_000E: ("UI", b"1.2.826.0.1.3680043.10.999.3"),
        0x0020_0011: ("IS", b"1"),
        0x0020_0013: ("IS", b"4"),
        0x0028_0004: ("CS", photometric.encode()),
        **{tag: ("US", u16(number, order=order)) for tag, number in numbers.items()},
    }
    if samples > 1:
        attributes[0x0028_0006] = ("US", u16(0, order=order))
    if frames > 1:
        attributes[0x0018_1063] = ("DS", b"33.3")
        attributes[0x0028_0008] = ("IS", str(frames).encode())
        attributes[0x0028_0009] = ("AT", u16(0x0018, 0x1063, order=order))
    pixels = speckle(frames, rows, columns, samples).tobytes()
    return Sample(attributes, pixels, transfer_syntax)
