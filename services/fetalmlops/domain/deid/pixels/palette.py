"""The colour palette of palette images (PS3.3 C.7.9): kept whole, cut to the length that its descriptors state."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.deid.faults import refuse
from fetalmlops.domain.deid.rules.attributes import PALETTE
from fetalmlops.domain.imaging.faults import Fault

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.files.writer import Attributes

__all__ = ["Palette", "read_palette"]

_DESCRIPTORS, _TABLES = PALETTE[:3], PALETTE[3:]
_FULL = 65536


@dataclass(frozen=True)
class Palette:
    """The attributes of a palette, the pixel value of its darkest colour, and the colour of every pixel value.

    Parameters
    ----------
    attributes
        To be written.
    darkest
        A pixel value.
    colours
        RGB of each pixel value, ``uint8`` of [2 ** bits stored, 3], the brightest level 255.
    """

    attributes: Attributes = field(default_factory=dict)
    darkest: int = 0
    colours: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 3), np.uint8), compare=False)


def read_palette(dataset: Item, stored: int) -> Palette:
    """Read the palette of an image whose pixels have `stored` bits.

    Raises
    ------
    PermanentError
        If a descriptor or a table is missing or too short (reason ``unsupported-pixel-format``).
    """
    attributes: Attributes = {}
    tables: list[NDArray[np.int64]] = []
    first = 0
    for descriptor_tag, table_tag in zip(_DESCRIPTORS, _TABLES, strict=True):
        entries, first, bits = _descriptor(dataset, descriptor_tag)
        table = _table(dataset, table_tag, entries, bits)
        attributes[descriptor_tag] = ("US", struct.pack("<3H", entries % _FULL, first, bits))
        attributes[table_tag] = ("OW", table.tobytes())
        tables.append((table if table.dtype.itemsize == 2 else table[:entries]).astype(np.int64))
    if len({len(table) for table in tables}) > 1:
        tables = tables[-1:] * len(tables)
    darkest = first + int(np.argmin(sum(tables)))
    if darkest >= 1 << stored:
        refuse("Expected a palette within the range of the pixels, got one beyond", Fault.UNSUPPORTED_PIXEL_FORMAT)
    return Palette(attributes, darkest, _colours(np.stack(tables, axis=-1), first, stored))


def _colours(levels: NDArray[np.int64], first: int, stored: int) -> NDArray[np.uint8]:
    """Return the colour of each pixel value: values beside the table show its ends."""
    levels = levels * 255 // max(int(levels.max()), 1)
    return levels[np.clip(np.arange(1 << stored) - first, 0, len(levels) - 1)].astype(np.uint8)


def _descriptor(dataset: Item, tag: int) -> tuple[int, int, int]:
    value = dataset.values.get(tag)
    if value is None or value.vr not in ("", "US", "SS", "UN") or len(value.data) != 6:
        refuse("Expected three numbers in a palette descriptor, got others", Fault.UNSUPPORTED_PIXEL_FORMAT)
    entries, first, bits = struct.unpack("<3H" if value.little else ">3H", value.data)
    if bits not in (8, 16):
        refuse("Expected palette entries of 8 or 16 bits, got others", Fault.UNSUPPORTED_PIXEL_FORMAT)
    return entries or _FULL, first, bits


def _table(dataset: Item, tag: int, entries: int, bits: int) -> np.ndarray[tuple[int], np.dtype[np.uint8 | np.uint16]]:
    value = dataset.values.get(tag)
    size = len(value.data) if value else 0
    if value is None or value.vr not in ("", "OW", "US", "UN") or size < entries * bits // 8:
        refuse(
            "Expected a plain palette table as long as its descriptor states, got a shorter or a segmented one",
            Fault.UNSUPPORTED_PIXEL_FORMAT,
        )
    words = np.frombuffer(value.data[: size // 2 * 2], "<u2" if value.little else ">u2").astype("<u2")
    if size >= entries * 2:
        return words[:entries]
    return words.view(np.uint8)[: entries + entries % 2]
