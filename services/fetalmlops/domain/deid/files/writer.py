"""A writer of Part 10 files: Explicit VR Little Endian, attributes in order, nothing but what it is given.

The preamble is zero, the file meta information is made anew (PS3.15 E.1.1), sequences and items have defined lengths,
group lengths and padding are absent. The same attributes give the same bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "Attributes",
    "encode_attributes",
    "encode_file_meta",
    "fragment",
    "native_pixels_head",
    "text",
]

IMPLEMENTATION_CLASS_UID = "2.25.70989335116012400321765865071125792729"
"""Names this implementation in the files it writes."""

Attributes = dict[int, "tuple[str, bytes | list[Attributes]]"]
"""Attributes by tag: value representation, and the encoded value or the items."""

ENCAPSULATED_HEAD = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + struct.pack(
    "<HHI", 0xFFFE, 0xE000, 0
)
"""Head of encapsulated Pixel Data with an empty Basic Offset Table (PS3.5 A.4)."""

ENCAPSULATED_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
"""End of encapsulated Pixel Data."""

_VERSION_NAME = "FETALMLOPS_1"
_LONG_VRS = frozenset(("OB", "OW", "SQ", "UN", "UT", "UC", "UR", "OD", "OF", "OL", "OV", "SV", "UV"))
_ZERO_PADDED = frozenset(("UI", "OB", "OW", "UN"))


def text(*values: str) -> bytes:
    r"""Return the encoded value of a text attribute.

    Examples
    --------
    >>> text("DERIVED", "PRIMARY")
    b'DERIVED\\PRIMARY'
    """
    return "\\".join(values).encode("ascii")


def encode_attributes(attributes: Mapping[int, tuple[str, bytes | list[Attributes]]]) -> bytes:
    """Return attributes, in the order of their tags, as Explicit VR Little Endian (PS3.5 section 7.1)."""
    return b"".join(_encode(tag, *attributes[tag]) for tag in sorted(attributes))


def encode_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return a zero preamble, the prefix and the File Meta Information (PS3.10 section 7.1)."""
    meta = encode_attributes(
        {
            0x0002_0001: ("OB", b"\0\1"),
            0x0002_0002: ("UI", text(sop_class_uid)),
            0x0002_0003: ("UI", text(sop_instance_uid)),
            0x0002_0010: ("UI", text(transfer_syntax_uid)),
            0x0002_0012: ("UI", text(IMPLEMENTATION_CLASS_UID)),
            0x0002_0013: ("SH", text(_VERSION_NAME)),
        }
    )
    return bytes(128) + b"DICM" + encode_attributes({0x0002_0000: ("UL", struct.pack("<I", len(meta)))}) + meta


def native_pixels_head(vr: str, size: int) -> bytes:
    """Return the head of a native Pixel Data element whose value has `size` bytes, padding included."""
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr.encode(), 0, size)


def fragment(data: bytes) -> bytes:
    """Return one fragment of encapsulated Pixel Data, padded to an even length."""
    padding = len(data) % 2
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data) + padding) + data + bytes(padding)


def _encode(tag: int, vr: str, value: bytes | list[Attributes]) -> bytes:
    data = _items(value) if isinstance(value, list) else value
    if len(data) % 2:
        data += b"\0" if vr in _ZERO_PADDED else b" "
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(data)) + data
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(data)) + data


def _items(items: Iterable[Attributes]) -> bytes:
    encoded = (encode_attributes(item) for item in items)
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in encoded)
