from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fetalmlops.domain.errors import PermanentError
from fetalmlops.inference.requests import FrameReader, verify_frames
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb


def chunk(numbers: list[int], rows: int = 20, columns: int = 30, pixels: bytes | None = None) -> pb.FrameChunk:
    data = bytes(len(numbers) * rows * columns) if pixels is None else pixels
    return pb.FrameChunk(
        rows=rows, columns=columns, frame_numbers=numbers, pixels=data, sha256=hashlib.sha256(data).digest()
    )


def test_frames_of_several_messages_are_read_in_order() -> None:
    reader = FrameReader()
    pixels = np.arange(2 * 20 * 30, dtype=np.uint16).astype(np.uint8)
    frames = reader.read(chunk([1, 3], pixels=pixels.tobytes()))
    np.testing.assert_array_equal(frames, pixels.reshape(2, 20, 30))
    reader.read(chunk([7]))
    reader.end()
    assert (reader.frame_numbers, reader.shape) == ([1, 3, 7], (20, 30))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (None, chunk([], pixels=b""), "frame-count"),
        (None, chunk([*range(1, 18)]), "frame-count"),
        (None, chunk([0]), "frame-numbers"),
        (None, chunk([2, 2]), "frame-numbers"),
        (None, chunk([2, 1]), "frame-numbers"),
        (None, chunk([1], rows=513), "frame-size"),
        (None, chunk([1], rows=15), "frame-size"),
        (None, chunk([1], rows=0), "frame-size"),
        (None, chunk([1], rows=4_000_000_000, pixels=b""), "frame-size"),
        (None, chunk([1], pixels=bytes(599)), "pixels"),
        (None, chunk([1], pixels=bytes(601)), "pixels"),
        (chunk([5]), chunk([5]), "frame-numbers"),
        (chunk([5]), chunk([6], rows=21), "frame-size"),
    ],
)
def test_what_breaks_the_contract_is_refused(first: pb.FrameChunk | None, second: pb.FrameChunk, reason: str) -> None:
    reader = FrameReader()
    if first is not None:
        reader.read(first)
    with pytest.raises(PermanentError) as caught:
        reader.read(second)
    assert caught.value.reason == reason


def test_more_than_64_frames_are_refused() -> None:
    reader = FrameReader()
    for start in range(1, 65, 16):
        reader.read(chunk([*range(start, start + 16)]))
    with pytest.raises(PermanentError, match="64"):
        reader.read(chunk([65]))


def test_no_frame_at_all_is_refused() -> None:
    with pytest.raises(PermanentError) as caught:
        FrameReader().end()
    assert caught.value.reason == "no-frames"


def test_changed_pixels_are_refused() -> None:
    part = chunk([1])
    verify_frames(FrameReader().read(part), part.sha256)
    part.pixels = b"\x01" + part.pixels[1:]
    with pytest.raises(PermanentError) as caught:
        verify_frames(FrameReader().read(part), part.sha256)
    assert caught.value.reason == "digest-mismatch"
