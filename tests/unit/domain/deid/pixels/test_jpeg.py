"""A stripped JPEG frame decodes as before and holds nothing that no decoder needs."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from fetalmlops.domain.deid.pixels.jpeg import strip_jpeg
from fetalmlops.domain.errors import PermanentError


def encode(*options: int, colour: bool = True) -> bytes:
    shape = (40, 48, 3) if colour else (40, 48)
    pixels = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 255, shape, dtype=np.uint8), (5, 5), 0)
    return bytes(cv2.imencode(".jpg", pixels, list(options))[1].tobytes())


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(
    "frame",
    [
        encode(),
        encode(colour=False),
        encode(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encode(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    ],
    ids=["colour", "grey", "progressive", "restarts"],
)
def test_stripped_frames_decode_as_before(frame: bytes) -> None:
    hidden = b"".join(segment(marker, b"CANARY") for marker in (0xFE, *range(0xE0, 0xF0)))
    scan = frame.index(b"\xff\xda")
    dirty = frame[:2] + b"\xff\xff" + hidden[:] + frame[2:scan] + segment(0xFE, b"CANARY") + frame[scan:] + b"CANARY"
    stripped = strip_jpeg(dirty)
    assert b"CANARY" not in stripped.data
    assert stripped.data.endswith(b"\xff\xd9")
    before, after = (simplejpeg.decode_jpeg(data, "RGB") for data in (frame, stripped.data))
    assert np.array_equal(before, after)
    assert (stripped.rows, stripped.columns, stripped.precision) == (40, 48, 8)
    assert strip_jpeg(stripped.data) == stripped


def test_the_colour_transform_is_kept_and_a_thumbnail_is_not() -> None:
    frame = encode()
    adobe = segment(0xEE, b"Adobe\0\x64CANA\x00RY-TAIL")
    jfif = segment(0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\1\1" + b"PIX")
    stripped = strip_jpeg(frame[:2] + jfif + adobe + frame[2:]).data
    assert stripped.count(b"Adobe") == 1
    assert b"CANA" not in stripped
    assert b"PIX" not in stripped
    place = stripped.index(b"Adobe")
    assert stripped[place - 4 : place + 12] == b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"\xff\xd8",
        lambda _: b"\xff\xd8\xff\xd9",
        lambda frame: frame[2:],
        lambda frame: frame[:300],
        lambda frame: frame[:-2],
        lambda frame: frame.replace(b"\xff\xdb", b"\xff\x01", 1),
        lambda frame: frame.replace(b"\xff\xc0", b"\xff\xc9", 1),
        lambda frame: frame[:2] + b"CANARY" + frame[2:],
        lambda frame: frame[:2] + b"\xff\xfe\xff\xff" + frame[2:100],
        lambda frame: frame[:2] + segment(0xC0, b"\x08\0\x10\0\x10\0") + frame[2:],
    ],
)
def test_damaged_frames_are_refused(damage: Any) -> None:
    with pytest.raises(PermanentError) as error:
        strip_jpeg(damage(encode()))
    assert "CANARY" not in str(error.value)
