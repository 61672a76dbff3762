"""A strict reader of Part 10 files: it reads what is wanted and steps over all else.

De-identification by default-deny needs few of the attributes of a file, so only those are read. Lengths are checked before
anything is allocated, nesting and the number of elements are bounded, no value is converted and no warning is raised:
warnings of general DICOM libraries quote values. Anything that is not plainly DICOM (PS3.5 section 7, PS3.10 section 7)
is refused.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import IO, BinaryIO, NamedTuple, cast

from fetalmlops.domain.deid.faults import refuse
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.domain.imaging.source import PixelData

__all__ = ["Header", "Item", "Syntax", "Value", "Wanted", "read_header"]

MAX_DEPTH = 32
"""Deepest nesting of sequences that is read."""

MAX_ELEMENTS = 1_000_000
"""Most elements before the pixel data."""

MAX_VALUE_BYTES = 1024 * 1024
"""Longest value that is read (longer ones that are not wanted are stepped over)."""

MAX_ITEMS = 50_000
"""Most items of wanted sequences, all depths together."""

MAX_WANTED_BYTES = 64 * 1024 * 1024
"""Most bytes of wanted values, all together."""

MAX_INFLATED_BYTES = 512 * 1024 * 1024
"""Longest dataset that a deflated one may become."""

MAX_INFLATED_HEAD_BYTES = 8 * 1024 * 1024
"""Longest part of a deflated dataset that is inflated where only its first attributes are of interest."""

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

_PREFIX_END = 132
_UID_BYTES = 64
_WINDOW = 64 * 1024
_UNDEFINED = 0xFFFFFFFF
_GROUP_2_END = 0x0003_0000
_GROUP_LENGTH = 0x0002_0000
_TRANSFER_SYNTAX = 0x0002_0010
_PIXEL_DATA = 0x7FE0_0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_DELIMITERS = (_ITEM, _ITEM_END, _SEQUENCE_END)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


class Syntax(NamedTuple):
    """How elements are encoded (PS3.5 section 10)."""

    implicit: bool
    little: bool


_META = Syntax(implicit=False, little=True)
_IN_UNKNOWN = Syntax(implicit=True, little=True)
_SYNTAXES = {
    IMPLICIT_LITTLE: Syntax(implicit=True, little=True),
    EXPLICIT_BIG: Syntax(implicit=False, little=False),
}


class Value(NamedTuple):
    """One value as encoded; `vr` is empty where the encoding states none."""

    vr: str
    data: bytes
    little: bool


@dataclass(slots=True)
class Item:
    """What was wanted of a dataset or of a sequence item, and the tags of all that it has."""

    values: dict[int, Value] = field(default_factory=dict)
    items: dict[int, list[Item]] = field(default_factory=dict)
    tags: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Header:
    """What was wanted of a file before its pixels.

    `file` holds the pixels in the encoding of `transfer_syntax_uid`: another file than the one given, and Explicit VR Little
    Endian, where that one is deflated.
    """

    transfer_syntax_uid: str
    dataset: Item
    pixels: PixelData | None
    file: BinaryIO


Wanted = dict[int, "Wanted | int | None"]
"""The tags that are wanted: for a sequence what is wanted of its items (which may be the same again: trees are read to
`MAX_DEPTH`); for a value None, or the most bytes that are of interest: a longer one, or a sequence, is stepped over."""


class _Element(NamedTuple):
    tag: int
    vr: bytes
    length: int
    offset: int


def read_header(file: IO[bytes], wanted: Wanted, *, stop_after: int = _PIXEL_DATA) -> Header:
    """Read what is wanted of a Part 10 file, up to its pixel data.

    Parameters
    ----------
    file
        A seekable binary file.
    wanted
        The tags to read.
    stop_after
        The last tag of interest: nothing is read from the first attribute above it on.

    Raises
    ------
    PermanentError
        If the file is not plainly DICOM (reason ``undecodable``) or would take too much memory (``too-large``).
    """
    reader = _Reader(file, file.seek(0, io.SEEK_END), stop_after)
    if reader.size < _PREFIX_END or reader.take(_PREFIX_END - 4, 4) != b"DICM":
        refuse("Expected a Part 10 file (PS3.10), got one without its prefix")
    uid, start = _read_meta(reader)
    if uid == DEFLATED:
        reader, start, uid = _inflate(reader, start), 0, EXPLICIT_LITTLE
    dataset, _ = reader.dataset(start, reader.size, wanted, _SYNTAXES.get(uid, _META), 0)
    return Header(uid, dataset, reader.pixels, cast("BinaryIO", reader.file))


def _read_meta(reader: _Reader) -> tuple[str, int]:
    uid, offset, end = "", _PREFIX_END, _PREFIX_END + 12
    while offset < end:
        element = reader.element(offset, reader.size, _META)
        if not _GROUP_LENGTH <= element.tag < _GROUP_2_END or element.length == _UNDEFINED:
            refuse("Expected File Meta Information, got other elements")
        if element.tag == _GROUP_LENGTH:
            end += int.from_bytes(reader.take(element.offset, 4), "little")
        if element.tag == _TRANSFER_SYNTAX and element.length <= _UID_BYTES:
            uid = reader.take(element.offset, element.length).rstrip(b"\0 ").decode("ascii", "replace")
        offset = element.offset + element.length
    if not uid or offset != end:
        refuse("Expected File Meta Information of the stated length with a Transfer Syntax UID, got another")
    return uid, offset


def _inflate(reader: _Reader, start: int) -> _Reader:
    head_only = reader.stop_after < _PIXEL_DATA
    limit = MAX_INFLATED_HEAD_BYTES if head_only else MAX_INFLATED_BYTES
    reader.file.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        dataset = inflater.decompress(reader.file.read(limit if head_only else -1), limit)
    except zlib.error:
        refuse("Expected a deflated dataset, got one that cannot be inflated")
    if inflater.unconsumed_tail and not head_only:
        refuse(f"Expected a deflated dataset of at most {MAX_INFLATED_BYTES} bytes, got more", Fault.TOO_LARGE)
    if not inflater.eof and not head_only:
        refuse("Expected a whole deflated dataset, got one that breaks off")
    return _Reader(io.BytesIO(dataset), len(dataset), reader.stop_after)


class _Reader:
    """Steps through the elements of one file, of which a window is in memory."""

    def __init__(self, file: IO[bytes], size: int, stop_after: int) -> None:
        self.file = file
        self.size = size
        self.stop_after = stop_after
        self.pixels: PixelData | None = None
        self._window = b""
        self._base = 0
        self._elements = 0
        self._items = 0
        self._bytes = 0

    def take(self, offset: int, count: int) -> bytes:
        """Return `count` bytes at `offset`."""
        index = self._load(offset, count)
        return self._window[index : index + count]

    def element(self, offset: int, end: int, syntax: Syntax) -> _Element:
        """Read the head of the element at `offset`, which must end within `end`."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            refuse(f"Expected at most {MAX_ELEMENTS} elements before the pixel data, got more", Fault.TOO_LARGE)
        order = "<" if syntax.little else ">"
        index = self._load(offset, 8)
        group, number, vr, short = struct.unpack_from(order + "HH2sH", self._window, index)
        tag = group << 16 | number
        if syntax.implicit or tag in _DELIMITERS:
            vr, start = b"", offset + 8
            (length,) = struct.unpack_from(order + "I", self._window, index + 4)
        elif vr in _SHORT_VRS:
            length, start = short, offset + 8
        elif vr in _LONG_VRS:
            index = self._load(offset, 12)
            (length,), start = struct.unpack_from(order + "I", self._window, index + 8), offset + 12
        else:
            refuse("Expected a value representation of PS3.5 section 6.2, got another one")
        if length != _UNDEFINED and start + length > end:
            refuse("Expected an element that ends within what holds it, got a longer one")
        return _Element(tag, vr, length, start)

    def dataset(self, offset: int, end: int | None, wanted: Wanted, syntax: Syntax, depth: int) -> tuple[Item, int]:
        """Read a dataset or an item; `end` is None where a delimiter ends it. Return it and where it ended."""
        item = Item()
        limit = self.size if end is None else end
        while offset < limit:
            element = self.element(offset, limit, syntax)
            if element.tag in _DELIMITERS:
                if element.tag != _ITEM_END or end is not None:
                    refuse("Expected an attribute, got a delimiter")
                return item, element.offset
            if depth == 0 and (element.tag == _PIXEL_DATA or element.tag > self.stop_after):
                self.pixels = _pixel_data(element) if element.tag == _PIXEL_DATA else None
                return item, element.offset
            if element.tag < _GROUP_2_END:
                refuse("Expected attributes of groups above 0002 in a dataset, got a lower one")
            item.tags.append(element.tag)
            offset = self._attribute(item, element, wanted, syntax, depth)
        if offset != end:
            refuse("Expected an item that ends where it says or with its delimiter, got another end")
        return item, offset

    def _attribute(self, item: Item, element: _Element, wanted: Wanted, syntax: Syntax, depth: int) -> int:
        tag, vr, length, start = element
        inner = wanted.get(tag, -1)
        if isinstance(inner, int) and (length > inner or vr == b"SQ"):
            return start + length if length != _UNDEFINED else self._step_over(element, syntax, depth)
        if tag in item.values or tag in item.items:
            refuse("Expected each attribute once, got one twice")
        if isinstance(inner, int):
            inner = None
        if inner is not None and vr in (b"", b"SQ", b"UN"):
            inner_syntax = _IN_UNKNOWN if vr == b"UN" else syntax
            item.items[tag], end = self._sequence(element, inner, inner_syntax, depth + 1)
            return end
        if inner is not None or length == _UNDEFINED:
            refuse("Expected a sequence where one is defined, and a value elsewhere; got the other")
        if length > MAX_VALUE_BYTES:
            refuse(f"Expected a value of at most {MAX_VALUE_BYTES} bytes, got a longer one", Fault.TOO_LARGE)
        self._bytes += length
        if self._bytes > MAX_WANTED_BYTES:
            refuse(f"Expected values of at most {MAX_WANTED_BYTES} bytes together, got more", Fault.TOO_LARGE)
        item.values[tag] = Value(vr.decode(), self.take(start, length), syntax.little or vr == b"UN")
        return start + length

    def _step_over(self, element: _Element, syntax: Syntax, depth: int) -> int:
        if element.vr in (b"OB", b"OW"):
            return self._step_over_fragments(element.offset, syntax)
        if element.vr not in (b"", b"SQ", b"UN"):
            refuse("Expected a defined length for this value representation, got an undefined one")
        inner_syntax = _IN_UNKNOWN if element.vr == b"UN" else syntax
        return self._sequence(element, {}, inner_syntax, depth + 1)[1]

    def _step_over_fragments(self, offset: int, syntax: Syntax) -> int:
        while True:
            fragment = self.element(offset, self.size, syntax)
            offset = fragment.offset + fragment.length
            if fragment.tag == _SEQUENCE_END:
                return offset
            if fragment.tag != _ITEM or fragment.length == _UNDEFINED:
                refuse("Expected a fragment of defined length, got another element")

    def _sequence(self, element: _Element, wanted: Wanted, syntax: Syntax, depth: int) -> tuple[list[Item], int]:
        if depth > MAX_DEPTH:
            refuse(f"Expected sequences nested at most {MAX_DEPTH} deep, got deeper ones")
        items: list[Item] = []
        offset, undefined = element.offset, element.length == _UNDEFINED
        end = self.size if undefined else offset + element.length
        while offset < end:
            head = self.element(offset, end, syntax)
            if head.tag == _SEQUENCE_END and undefined:
                return items, head.offset
            if head.tag != _ITEM:
                refuse("Expected an item of a sequence, got another element")
            item_end = None if head.length == _UNDEFINED else head.offset + head.length
            item, offset = self.dataset(head.offset, item_end, wanted, syntax, depth)
            if wanted:
                self._count(items, item)
        if undefined or offset != end:
            refuse("Expected a sequence that ends where it says or with its delimiter, got another end")
        return items, offset

    def _count(self, items: list[Item], item: Item) -> None:
        self._items += 1
        if self._items > MAX_ITEMS:
            refuse(f"Expected at most {MAX_ITEMS} items of the sequences that are read, got more", Fault.TOO_LARGE)
        items.append(item)

    def _load(self, offset: int, count: int) -> int:
        index = offset - self._base
        if index >= 0 and index + count <= len(self._window):
            return index
        self.file.seek(offset)
        self._window, self._base = self.file.read(max(count, _WINDOW)), offset
        if len(self._window) < count:
            refuse("Expected a whole file, got one that ends within an element")
        return 0


def _pixel_data(element: _Element) -> PixelData:
    return PixelData(element.vr.decode(), element.offset, None if element.length == _UNDEFINED else element.length)
