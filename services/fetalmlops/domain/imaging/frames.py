"""The frames object: normalised frames in one small container.

Its bytes, all integers little-endian:

- 8 bytes magic ``FETALFR1``;
- 4 bytes length of the header, then the header: JSON with ``version`` (1), ``count``, ``rows``, ``columns``,
  ``frame_numbers`` and ``chunk_frames`` (16);
- for every `chunk_frames` frames, the last ones may be fewer: 4 bytes length of the chunk, then its frames one after the
  other, 8-bit grey levels row by row.

There is nothing after the last chunk.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fetalmlops.domain.contracts.events import Quality
from fetalmlops.domain.contracts.planes import FrameMode, SectorShape
from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = [
    "CHUNK_FRAMES",
    "FRAMES_MEDIA_TYPE",
    "MAX_FRAMES",
    "MAX_SIDE",
    "FrameChunk",
    "FramesContainer",
    "NormalizedObject",
    "read_frames",
    "write_frames",
]

FRAMES_MEDIA_TYPE = "application/vnd.fetalmlops.frames"
"""Media type of a frames object."""

CHUNK_FRAMES = 16
"""Frames of a chunk, as many as one message of a Classify call takes."""

MAX_FRAMES = 64
"""Most frames of one object."""

MAX_SIDE = 512
"""Longest side of a frame in pixels."""

_MAGIC = b"FETALFR1"
_VERSION = 1
_LENGTH = struct.Struct("<I")
_HEADER_AT = len(_MAGIC) + _LENGTH.size

_Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
_Number = Annotated[int, Meta(ge=1)]


class _Header(Struct, frozen=True, kw_only=True):
    version: int
    count: Annotated[int, Meta(ge=1, le=MAX_FRAMES)]
    rows: _Side
    columns: _Side
    frame_numbers: Annotated[list[_Number], Meta(min_length=1, max_length=MAX_FRAMES)]
    chunk_frames: Annotated[int, Meta(ge=1, le=MAX_FRAMES)]


class NormalizedObject(Struct, frozen=True, kw_only=True):
    """What normalising one instance gives: the frames object and what its event says of it.

    Parameters
    ----------
    data
        Bytes of the frames object.
    total_frames
        Number of frames of the instance.
    frame_numbers
        DICOM numbers (from 1) of the frames in the object.
    rows, columns
        Size of these frames in pixels.
    spacing
        Size of their pixels, [row, column] in mm, None if unknown.
    quality
        Quality figures.
    pipeline_digest
        Digest of the pipeline that made them.
    mode, sector
        What the pipeline found of them.
    """

    data: bytes
    total_frames: int
    frame_numbers: list[int]
    rows: int
    columns: int
    spacing: tuple[float, float] | None
    quality: Quality
    pipeline_digest: str
    mode: FrameMode = FrameMode.UNKNOWN
    sector: SectorShape = SectorShape.UNKNOWN


class FrameChunk(NamedTuple):
    """Some consecutive frames.

    Parameters
    ----------
    frame_numbers
        Their DICOM numbers, from 1.
    pixels
        Their grey levels, ``uint8`` of [frames, rows, columns], read-only.
    """

    frame_numbers: tuple[int, ...]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FramesContainer:
    """A frames object that was read and found sound; its pixels are views of the bytes it was read from.

    Parameters
    ----------
    rows, columns
        Size of a frame in pixels.
    frame_numbers
        DICOM numbers (from 1) of the frames, increasing.
    """

    rows: int
    columns: int
    frame_numbers: tuple[int, ...]
    _chunks: tuple[FrameChunk, ...]

    def __len__(self) -> int:
        return len(self.frame_numbers)

    def chunks(self) -> Iterator[FrameChunk]:
        """Yield the chunks in order."""
        yield from self._chunks

    @property
    def frames(self) -> NDArray[np.uint8]:
        """All frames in one array (a copy), ``uint8`` of [frames, rows, columns]."""
        return np.concatenate([chunk.pixels for chunk in self._chunks])


def write_frames(frames: NDArray[np.uint8], frame_numbers: Sequence[int]) -> bytes:
    """Return the frames object of some frames.

    Parameters
    ----------
    frames
        Grey levels, ``uint8`` of [frames, rows, columns]; at most 64 frames, no side longer than 512 pixels.
    frame_numbers
        Their DICOM numbers, from 1, increasing.

    Raises
    ------
    ContractError
        If frames and numbers are not as stated.

    Examples
    --------
    >>> data = write_frames(np.zeros((2, 3, 4), np.uint8), [1, 31])
    >>> [(chunk.frame_numbers, chunk.pixels.shape) for chunk in read_frames(data).chunks()]
    [((1, 31), (2, 3, 4))]
    """
    if frames.dtype != np.uint8 or frames.ndim != 3:
        msg = f"Expected frames of uint8 in 3 dimensions, got {frames.dtype} in {frames.ndim}"
        raise ContractError(msg, reason="frames-object")
    count, rows, columns = frames.shape
    header = _Header(
        version=_VERSION,
        count=count,
        rows=rows,
        columns=columns,
        frame_numbers=[int(number) for number in frame_numbers],
        chunk_frames=CHUNK_FRAMES,
    )
    encoded = msgspec.json.encode(header)
    _read_header(encoded)
    parts: list[bytes | memoryview] = [_MAGIC, _LENGTH.pack(len(encoded)), encoded]
    for start in range(0, count, CHUNK_FRAMES):
        pixels = np.ascontiguousarray(frames[start : start + CHUNK_FRAMES])
        parts += [_LENGTH.pack(pixels.nbytes), pixels.data.cast("B")]
    return b"".join(parts)


def read_frames(data: bytes) -> FramesContainer:
    """Read a frames object without copying its pixels.

    Raises
    ------
    ContractError
        If a byte of it is not as the format says.
    """
    if not data.startswith(_MAGIC) or len(data) < _HEADER_AT:
        raise _broken("its magic")
    start = _HEADER_AT + _LENGTH.unpack_from(data, len(_MAGIC))[0]
    header = _read_header(data[_HEADER_AT:start])
    chunks = []
    for first in range(0, header.count, header.chunk_frames):
        numbers = tuple(header.frame_numbers[first : first + header.chunk_frames])
        size = len(numbers) * header.rows * header.columns
        if len(data) < start + _LENGTH.size + size or _LENGTH.unpack_from(data, start)[0] != size:
            raise _broken("chunks of the stated length")
        start += _LENGTH.size
        pixels = np.frombuffer(data, np.uint8, size, start).reshape(len(numbers), header.rows, header.columns)
        chunks.append(FrameChunk(numbers, pixels))
        start += size
    if start != len(data):
        raise _broken("nothing after its last chunk")
    return FramesContainer(header.rows, header.columns, tuple(header.frame_numbers), tuple(chunks))


def _read_header(encoded: bytes) -> _Header:
    try:
        header = msgspec.json.decode(encoded, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _broken("a header of its schema") from None
    numbers = header.frame_numbers
    if header.version != _VERSION or len(numbers) != header.count or any(a >= b for a, b in pairwise(numbers)):
        raise _broken("version 1 and increasing numbers, one a frame")
    return header


def _broken(expected: str) -> ContractError:
    return ContractError(
        f"Expected a frames object with {expected}, got another; make it again", reason="frames-object"
    )
