"""What the header of a compressed frame says: read before decoding, so that a decoder never allocates what it claims."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from fetalmlops.domain.imaging.faults import Fault, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Codestream", "Process", "read_jpeg", "read_jpeg_2000"]

_SOI = b"\xff\xd8"
_MARK, _SOS, _APP0, _APP14 = 0xFF, 0xDA, 0xE0, 0xEE
_SEGMENT_HEAD = 4
_FRAME_HEAD = 8
_ADOBE_TRANSFORM = 11

_JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_JP2_HEADER_BYTES = 4096
_SOC_SIZ = b"\xff\x4f\xff\x51"
_SIZ = struct.Struct(">H2x4I16xH")
_SIZ_HEAD = 38
_SIZ_DEPTHS = 42
_SIGNED = 0x80


class Process(Enum):
    """Coding process of the JPEG family."""

    DCT = "dct"
    LOSSLESS = "lossless"
    LS = "ls"
    WAVELET = "wavelet"


# By start-of-frame marker: ISO/IEC 10918-1 table B.1, 14495-1 annex C.
_PROCESSES = {
    0xC0: Process.DCT,
    0xC1: Process.DCT,
    0xC2: Process.DCT,
    0xC3: Process.LOSSLESS,
    0xF7: Process.LS,
}
_SHORTEST = {**dict.fromkeys(_PROCESSES, _FRAME_HEAD), _APP14: 2 + _ADOBE_TRANSFORM + 1}


@dataclass(frozen=True)
class Codestream:
    """Header of one compressed frame.

    Parameters
    ----------
    process
        How it is coded.
    rows, columns
        Size in pixels.
    components
        Identifiers of its components.
    precision
        Bits per sample.
    jfif
        Whether a JFIF segment declares YCbCr.
    adobe
        Transform of the Adobe segment (0 none, 1 YCbCr), None without one.
    segments
        Offsets of the JFIF and Adobe segments' markers.
    start
        Offset of the codestream, past the head of a JP2 file.
    """

    process: Process
    rows: int
    columns: int
    components: tuple[int, ...]
    precision: int
    jfif: bool = False
    adobe: int | None = None
    segments: tuple[int, ...] = ()
    start: int = 0


def read_jpeg(data: bytes) -> Codestream:
    """Read the header of a JPEG, JPEG lossless or JPEG-LS frame up to its first scan.

    Raises
    ------
    PermanentError
        If it is malformed or of another process (reason ``undecodable``).
    """
    jfif, adobe, segments = False, None, []
    frame: Codestream | None = None
    for marker, offset in _segments(data):
        body = offset + _SEGMENT_HEAD
        if marker in _PROCESSES:
            frame = _read_frame(data, body, _PROCESSES[marker])
        elif marker == _APP0 and data.startswith(b"JFIF\0", body):
            jfif = True
            segments.append(offset)
        elif marker == _APP14 and data.startswith(b"Adobe", body):
            adobe = data[body + _ADOBE_TRANSFORM]
            segments.append(offset)
        elif marker == _SOS and frame:
            return replace(frame, jfif=jfif, adobe=adobe, segments=tuple(segments))
    return refuse(
        Fault.UNDECODABLE, "Expected a JPEG frame of a Huffman or LS process with a scan, got another or none"
    )


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and offset of each segment that lies whole before the first scan's data."""
    if not data.startswith(_SOI):
        refuse(Fault.UNDECODABLE, "Expected a JPEG frame to begin with its start marker, got other bytes")
    offset = len(_SOI)
    while offset + _SEGMENT_HEAD <= len(data) and data[offset] == _MARK:
        marker = data[offset + 1]
        if marker == _MARK:  # a fill byte
            offset += 1
            continue
        (length,) = struct.unpack_from(">H", data, offset + 2)
        if length < _SHORTEST.get(marker, 2) or offset + 2 + length > len(data):
            break
        yield marker, offset
        offset += 2 + length


def _read_frame(data: bytes, body: int, process: Process) -> Codestream:
    precision, rows, columns, count = struct.unpack_from(">BHHB", data, body)
    (length,) = struct.unpack_from(">H", data, body - 2)
    if length < _FRAME_HEAD + 3 * count:
        refuse(Fault.UNDECODABLE, "Expected a JPEG frame header as long as its components need, got a shorter one")
    components = tuple(data[body + 6 + 3 * index] for index in range(count))
    return Codestream(process, rows, columns, components, precision)


def read_jpeg_2000(data: bytes) -> Codestream:
    """Read the header of a JPEG 2000 frame (ISO/IEC 15444-1 A.5.1), whether bare as DICOM asks or within a JP2 file.

    Raises
    ------
    PermanentError
        If it is malformed (reason ``undecodable``), or of signed samples (``unsupported-pixel-format``).
    """
    start = data.find(_SOC_SIZ, 0, _JP2_HEADER_BYTES) if data.startswith(_JP2) else 0
    if start < 0 or not data.startswith(_SOC_SIZ, start) or len(data) < start + _SIZ_DEPTHS:
        refuse(Fault.UNDECODABLE, "Expected a JPEG 2000 frame to begin with its main header, got other bytes")
    length, right, bottom, left, top, count = _SIZ.unpack_from(data, start + len(_SOC_SIZ))
    depths = data[start + _SIZ_DEPTHS : start + _SIZ_DEPTHS + 3 * count]
    if length != _SIZ_HEAD + 3 * count or len(depths) < 3 * count or not count:
        refuse(Fault.UNDECODABLE, "Expected the sizes of all JPEG 2000 components, got others")
    if set(depths[1::3]) != {1} or set(depths[2::3]) != {1} or len(set(depths[::3])) != 1 or depths[0] & _SIGNED:
        refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, "Expected unsigned components of one size and depth, got others")
    return Codestream(Process.WAVELET, bottom - top, right - left, tuple(range(count)), depths[0] + 1, start=start)
