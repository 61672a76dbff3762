from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.frames import read_frames, write_frames


def frames(count: int, rows: int = 3, columns: int = 5) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, rows, columns)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 33, 64])
def test_what_is_written_is_read(count: int) -> None:
    pixels, numbers = frames(count), range(2, 2 + 3 * count, 3)
    container = read_frames(write_frames(pixels, numbers))
    assert container.frame_numbers == tuple(numbers)
    assert (len(container), container.rows, container.columns) == (count, 3, 5)
    chunks = list(container.chunks())
    assert [len(chunk.frame_numbers) for chunk in chunks] == [min(16, count - start) for start in range(0, count, 16)]
    assert sum((chunk.frame_numbers for chunk in chunks), ()) == tuple(numbers)
    assert np.array_equal(np.concatenate([chunk.pixels for chunk in chunks]), pixels)
    assert np.array_equal(container.frames, pixels)
    assert not chunks[0].pixels.flags.writeable


def test_the_format_is_what_it_says() -> None:
    data = write_frames(frames(17, 2, 2), range(1, 18))
    assert data.startswith(b"FETALFR1")
    (length,) = struct.unpack_from("<I", data, 8)
    header = json.loads(data[12 : 12 + length])
    assert header == {
        "version": 1,
        "count": 17,
        "rows": 2,
        "columns": 2,
        "frame_numbers": list(range(1, 18)),
        "chunk_frames": 16,
    }
    assert struct.unpack_from("<I", data, 12 + length) == (64,)
    assert struct.unpack_from("<I", data, 16 + length + 64) == (4,)
    assert len(data) == 20 + length + 68


def test_a_part_of_a_larger_array_is_written_as_seen() -> None:
    pixels = frames(4, 8, 8)[:, 1:5, ::2]
    assert np.array_equal(read_frames(write_frames(pixels, [1, 2, 3, 4])).frames, pixels)


@pytest.mark.parametrize(
    ("pixels", "numbers"),
    [
        (frames(2), [1]),
        (frames(2), [1, 1]),
        (frames(2), [2, 1]),
        (frames(2), [0, 1]),
        (frames(65), range(1, 66)),
        (frames(1, 513, 1), [1]),
        (frames(1, 1, 513), [1]),
        (np.zeros((0, 3, 3), np.uint8), []),
        (np.zeros((1, 3, 3)), [1]),
        (np.zeros((3, 3), np.uint8), [1]),
    ],
)
def test_frames_that_break_the_format_are_not_written(pixels: np.ndarray[Any, Any], numbers: Any) -> None:
    with pytest.raises(ContractError) as caught:
        write_frames(pixels, numbers)
    assert caught.value.reason == "frames-object"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"count": 16},
        {"count": 0},
        {"rows": 4},
        {"rows": 0},
        {"rows": 10**9, "columns": 10**9},
        {"columns": "3"},
        {"frame_numbers": [1] * 17},
        {"chunk_frames": 8},
        {"chunk_frames": 0},
    ],
)
def test_a_header_that_lies_is_refused(change: dict[str, Any]) -> None:
    data = write_frames(frames(17), range(1, 18))
    (length,) = struct.unpack_from("<I", data, 8)
    header = json.dumps({**json.loads(data[12 : 12 + length]), **change}).encode()
    with pytest.raises(ContractError):
        read_frames(data[:8] + struct.pack("<I", len(header)) + header + data[12 + length :])


@given(st.data())
def test_nothing_but_whole_objects_is_read(data: st.DataObject) -> None:
    whole = write_frames(frames(17), range(1, 18))
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"x", whole[:cut] + b"\0" + whole[cut:]):
        with pytest.raises(ContractError):
            read_frames(broken)


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    for candidate in (data, b"FETALFR1" + data, b"FETALFR1\x10\0\0\0" + data):
        with pytest.raises(ContractError):
            read_frames(candidate)
