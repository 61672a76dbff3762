"""JPEG frames without what hides between their segments: comments, application data, bytes after the end.

Of the application segments only the two that decide the colours are kept, made anew: JFIF (APP0) and Adobe's transform (APP14).
Everything else of ITU-T T.81 Annex B passes unchanged, so that the frame decodes bit-identical.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fetalmlops.domain.deid.faults import refuse

__all__ = ["JpegFrame", "strip_jpeg"]

_SOI, _EOI, _SOS, _COM, _DNL = 0xD8, 0xD9, 0xDA, 0xFE, 0xDC
_APP0, _APP14, _APP15 = 0xE0, 0xEE, 0xEF
_RESTARTS = range(0xD0, 0xD8)
_FRAME_HEADERS = frozenset((0xC0, 0xC1, 0xC2, 0xC3))
_TABLES = frozenset((0xC4, 0xDB, 0xDD))
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


@dataclass(frozen=True)
class JpegFrame:
    """A stripped frame and what its frame header states."""

    data: bytes
    precision: int
    rows: int
    columns: int
    samples: int


def strip_jpeg(data: bytes) -> JpegFrame:
    """Return a JPEG frame (baseline, extended, progressive or lossless) without anything that no decoder needs.

    Raises
    ------
    PermanentError
        If it is not plainly one such frame (reason ``undecodable``).
    """
    if data[:2] != b"\xff\xd8":
        refuse("Expected a JPEG frame, got one without its start")
    kept, stated, position = [data[:2]], (0, 0, 0, 0), 2
    while True:
        marker, position = _marker(data, position)
        if marker == _EOI:
            kept.append(b"\xff\xd9")
            break
        segment = _segment(data, position, marker)
        position += len(segment) - 2
        if marker in _FRAME_HEADERS:
            stated = _frame_header(segment, stated)
        if marker == _SOS:
            scan_end = _scan_end(data, position)
            segment, position = segment + data[position:scan_end], scan_end
        kept.append(_allowed(marker, segment))
    if not stated[0]:
        refuse("Expected a JPEG frame with a frame header, got one without")
    return JpegFrame(b"".join(kept), *stated)


def _marker(data: bytes, position: int) -> tuple[int, int]:
    if data[position : position + 1] != b"\xff":
        refuse("Expected a JPEG marker, got other bytes")
    while data[position : position + 1] == b"\xff":
        position += 1
    if position >= len(data):
        refuse("Expected a whole JPEG frame, got one that breaks off")
    return data[position], position + 1


def _segment(data: bytes, position: int, marker: int) -> bytes:
    length = int.from_bytes(data[position : position + 2], "big")
    if marker in _RESTARTS or length < 2 or position + length > len(data):
        refuse("Expected a whole JPEG segment, got one that breaks off")
    return bytes((0xFF, marker)) + data[position : position + length]


def _frame_header(segment: bytes, stated: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    samples = segment[9] if len(segment) > 9 else 0
    if stated[0] or not samples or len(segment) != 10 + 3 * samples:
        refuse("Expected one well-formed JPEG frame header, got others")
    rows, columns = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
    return segment[4], rows, columns, samples


def _allowed(marker: int, segment: bytes) -> bytes:
    if marker in _FRAME_HEADERS or marker in _TABLES or marker == _SOS:
        return segment
    if marker == _APP0 and segment[4:9] == b"JFIF\0":
        return _JFIF
    if marker == _APP14 and segment[4:9] == b"Adobe" and len(segment) >= 16:
        return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + segment[15:16]
    if not (marker == _COM or _APP0 <= marker <= _APP15):
        refuse("Expected JPEG segments of known kinds, got another one")
    return b""


def _scan_end(data: bytes, position: int) -> int:
    """Return where the entropy-coded data ends: at the next marker that is no restart."""
    found = _MARKER_AFTER_SCAN.search(data, position)
    if found is None:
        refuse("Expected a whole JPEG scan, got one that breaks off")
    return found.start()
