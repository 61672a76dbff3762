"""Where the frames of encapsulated pixel data lie (PS3.5 A.4): one scan over the heads of the fragments, not their bytes."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from fetalmlops.domain.imaging.faults import Fault, refuse

__all__ = ["MAX_FRAGMENTS", "Fragment", "locate_frames"]

MAX_FRAGMENTS = 1_000_000
"""Most fragments of one instance."""

_HEAD = struct.Struct("<HHI")
_ITEM = (0xFFFE, 0xE000)
_DELIMITER = (0xFFFE, 0xE0DD)
_STARTS = (b"\xff\xd8", b"\xff\x4f")  # start of image of the JPEG family, start of codestream of JPEG 2000


class Fragment(NamedTuple):
    """Place of one fragment's bytes: offset in the file and length."""

    offset: int
    length: int


def locate_frames(file: BinaryIO, start: int, end: int, frames: int) -> list[list[Fragment]]:
    """Return the fragments of each frame.

    Frames and fragments match where there are as many of both, as they must where an Extended Offset Table stands (PS3.3
    C.7.6.3.1.8). Otherwise the Basic Offset Table is believed where it agrees with the fragments, and else each frame must
    begin with its codestream's start marker.

    Parameters
    ----------
    file
        A seekable binary file.
    start, end
        Offset of the Basic Offset Table's item, and the size of the file.
    frames
        Number of frames that the dataset states.

    Raises
    ------
    PermanentError
        If the fragments are malformed (reason ``undecodable``), too many (``too-large``) or cannot be matched to the frames
        (``frames-inconsistent``).
    """
    table, *fragments = _scan(file, start, end)
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    if frames == 1 and fragments:
        return [fragments]
    groups = _by_table(_read_table(file, table, frames), fragments) or _by_marker(file, fragments)
    if len(groups) != frames:
        refuse(Fault.FRAMES_INCONSISTENT, "Expected the fragments of as many frames as the dataset states, got others")
    return groups


def _scan(file: BinaryIO, start: int, end: int) -> list[Fragment]:
    fragments: list[Fragment] = []
    offset = start
    while len(fragments) <= MAX_FRAGMENTS:
        file.seek(offset)
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            refuse(
                Fault.UNDECODABLE, "Expected encapsulated pixel data up to its delimiter, got a file that breaks off"
            )
        group, element, length = _HEAD.unpack(head)
        if (group, element) == _DELIMITER and fragments:
            return fragments
        offset += _HEAD.size
        if (group, element) != _ITEM or offset + length > end:
            refuse(
                Fault.UNDECODABLE, "Expected a fragment that ends within the file, got another element or a longer one"
            )
        fragments.append(Fragment(offset, length))
        offset += length
    return refuse(Fault.TOO_LARGE, f"Expected at most {MAX_FRAGMENTS} fragments, got more")


def _read_table(file: BinaryIO, table: Fragment, frames: int) -> tuple[int, ...]:
    if table.length != 4 * frames:
        return ()
    file.seek(table.offset)
    return struct.unpack(f"<{frames}I", file.read(table.length))


def _by_table(table: tuple[int, ...], fragments: list[Fragment]) -> list[list[Fragment]]:
    if not (table and fragments):
        return []
    # The table counts from the head of the first fragment to the head of each frame's first fragment.
    base = fragments[0].offset
    places = {fragment.offset - base: index for index, fragment in enumerate(fragments)}
    starts = [places.get(offset, -1) for offset in table]
    return _split(fragments, starts)


def _by_marker(file: BinaryIO, fragments: list[Fragment]) -> list[list[Fragment]]:
    starts = []
    for index, fragment in enumerate(fragments):
        file.seek(fragment.offset)
        if file.read(2) in _STARTS:
            starts.append(index)
    return _split(fragments, starts)


def _split(fragments: list[Fragment], starts: list[int]) -> list[list[Fragment]]:
    bounds = [*starts, len(fragments)]
    if bounds[0] != 0 or any(first >= last for first, last in pairwise(bounds)):
        return []
    return [fragments[first:last] for first, last in pairwise(bounds)]
