"""Reading a Classify call: options first, then frames that fit together."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.rpc.inference.v1 import inference_pb2 as pb

__all__ = ["MAX_CHUNK_FRAMES", "MAX_FRAMES", "MAX_SIDE", "FrameReader", "require_one_frame", "verify_frames"]

MAX_CHUNK_FRAMES: Final = 16
"""Most frames in one message."""
MAX_FRAMES: Final = 64
"""Most frames in one call."""
MAX_SIDE: Final = 512
"""Most rows or columns of a frame."""
MIN_SIDE: Final = 16
"""Fewest rows or columns of a frame: less holds nothing to classify."""


class FrameReader:
    """Reads the frames of one call, message by message.

    Attributes
    ----------
    frame_numbers
        DICOM frame numbers read so far.
    shape
        Rows and columns of the frames; (0, 0) before the first.
    """

    def __init__(self) -> None:
        self.frame_numbers: list[int] = []
        self.shape = (0, 0)

    def read(self, chunk: pb.FrameChunk) -> NDArray[np.uint8]:
        """Return a message's frames, [frames, rows, columns], not yet verified.

        Raises
        ------
        PermanentError
            If the frames break the contract; says what was expected.
        """
        shape = self._shape_of(chunk)
        numbers = self._numbers_of(chunk)
        expected = len(numbers) * shape[0] * shape[1]
        pixels = chunk.pixels  # once: each look at the field copies them
        if len(pixels) != expected:
            raise _refusal(f"{expected} bytes of pixels", f"{len(pixels)}", "pixels")
        self.shape = shape
        self.frame_numbers += numbers
        return np.frombuffer(pixels, np.uint8).reshape(len(numbers), *shape)

    def end(self) -> None:
        """Check that there was a frame at all; raises as `read`."""
        if not self.frame_numbers:
            raise _refusal("at least one frame", "none", "no-frames")

    def _shape_of(self, chunk: pb.FrameChunk) -> tuple[int, int]:
        shape = (int(chunk.rows), int(chunk.columns))
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in shape):
            raise _refusal(f"{MIN_SIDE} to {MAX_SIDE} rows and columns", f"{shape[0]} x {shape[1]}", "frame-size")
        if self.frame_numbers and shape != self.shape:
            raise _refusal(f"frames of one size, {self.shape[0]} x {self.shape[1]}", "others", "frame-size")
        return shape

    def _numbers_of(self, chunk: pb.FrameChunk) -> list[int]:
        numbers = list(chunk.frame_numbers)
        if not 1 <= len(numbers) <= MAX_CHUNK_FRAMES:
            raise _refusal(f"1 to {MAX_CHUNK_FRAMES} frames in a message", f"{len(numbers)}", "frame-count")
        if len(self.frame_numbers) + len(numbers) > MAX_FRAMES:
            raise _refusal(f"at most {MAX_FRAMES} frames in a call", "more", "frame-count")
        before = [self.frame_numbers[-1] if self.frame_numbers else 0, *numbers[:-1]]
        if any(number <= last for last, number in zip(before, numbers, strict=True)):
            raise _refusal("increasing frame numbers from 1", "others", "frame-numbers")
        return numbers


def require_one_frame(chunk: pb.FrameChunk) -> None:
    """Check that a message holds one frame; raises `PermanentError` otherwise."""
    if len(chunk.frame_numbers) != 1:
        raise _refusal("one frame", f"{len(chunk.frame_numbers)}", "frame-count")


def verify_frames(frames: NDArray[np.uint8], sha256: bytes) -> None:
    """Check frames against the digest that came with them; raises `PermanentError` if they differ."""
    if hashlib.sha256(frames.reshape(-1).data).digest() != sha256:
        raise _refusal("pixels of the message's SHA-256", "other pixels", "digest-mismatch")


def _refusal(expected: str, found: str, reason: str) -> PermanentError:
    return PermanentError(f"Expected {expected}, got {found}; send them as the contract tells", reason=reason)
