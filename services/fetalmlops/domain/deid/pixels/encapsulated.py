"""Encapsulated pixels: decoded, masked and coded again without loss; or as stored, without what hides in them.

Either way one frame at a time: the memory needed does not grow with the number of frames.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from pydicom import uid

from fetalmlops.domain.deid.faults import refuse
from fetalmlops.domain.deid.files.writer import ENCAPSULATED_END, ENCAPSULATED_HEAD, Attributes, fragment, text
from fetalmlops.domain.deid.pixels.jpeg import strip_jpeg
from fetalmlops.domain.deid.pixels.mask import FrameMask, Order, PixelPlan
from fetalmlops.domain.imaging.decoding import DecodedFrame, iter_frames
from fetalmlops.domain.imaging.encoding import ENCODED_TRANSFER_SYNTAX_UID, encode_frames
from fetalmlops.domain.imaging.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from fetalmlops.domain.deid.pixels.mask import Watch
    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.domain.imaging.layout import PixelLayout
    from fetalmlops.domain.imaging.source import FrameSource

__all__ = ["encoded_plan", "stored_plan"]

_BYTE = 8
_STORABLE = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)


def encoded_plan(
    source: FrameSource, rectangles: tuple[Rectangle, ...], darkest: int = 0, watch: Watch | None = None
) -> PixelPlan:
    """Return the plan for compressed pixels: the rectangles decode bit-identical, all else is black.

    The first frame is decoded for the plan, because only its codestream says what its samples mean. `watch` is shown each frame
    as the writing comes to it.

    Raises
    ------
    PermanentError
        If the first frame cannot be decoded; the writing raises likewise for the others.
    """
    frames = iter_frames(source)
    first = next(frames)
    bits = first.bits
    layout = replace(
        source.layout,
        photometric=first.photometric,
        bits_allocated=_BYTE if bits <= _BYTE else 2 * _BYTE,
        bits_stored=bits,
        planar=False,
    )
    mask = FrameMask(layout, Order.native(layout), rectangles, darkest)
    masked = _masked(chain((first,), frames), mask, layout, watch)
    return PixelPlan(
        ENCODED_TRANSFER_SYNTAX_UID,
        rectangles,
        lambda target: _write_fragments(encode_frames(masked), target),
        _format(layout) | _lossiness(source),
    )


def stored_plan(source: FrameSource) -> PixelPlan:
    """Return the plan for compressed pixels that may be shown whole: JPEG as it is, without its comments and the like.

    Other codings can hide bytes in more places and are coded again.
    """
    layout = source.layout
    whole = ((0, 0, layout.columns, layout.rows),)
    if source.transfer_syntax_uid not in _STORABLE:
        return encoded_plan(source, whole)
    return PixelPlan(
        source.transfer_syntax_uid,
        whole,
        lambda target: _write_fragments(_stripped(source), target),
        _lossiness(source),
    )


def _masked(
    frames: Iterable[DecodedFrame], mask: FrameMask, layout: PixelLayout, watch: Watch | None
) -> Iterator[DecodedFrame]:
    masked = mask.blank()
    for frame in frames:
        if frame.photometric is not layout.photometric or frame.bits != layout.bits_stored:
            refuse("Expected frames of one format, got a frame of another", Fault.FRAMES_INCONSISTENT)
        if watch:
            watch(frame)
        mask.let_through(frame.pixels, into=masked)
        yield frame._replace(pixels=masked)


def _stripped(source: FrameSource) -> Iterator[bytes]:
    layout = source.layout
    for number in range(1, layout.frames + 1):
        frame = strip_jpeg(source.read(number))
        if (frame.rows, frame.columns, frame.samples) != (layout.rows, layout.columns, layout.samples):
            refuse("Expected a frame of the size that the dataset states, got another", Fault.FRAMES_INCONSISTENT)
        if frame.precision > layout.bits_stored:
            refuse("Expected a frame of no more bits than are stored, got more", Fault.FRAMES_INCONSISTENT)
        yield frame.data


def _write_fragments(frames: Iterable[bytes], target: IO[bytes]) -> None:
    target.write(ENCAPSULATED_HEAD)
    target.writelines(fragment(frame) for frame in frames)
    target.write(ENCAPSULATED_END)


def _format(layout: PixelLayout) -> Attributes:
    numbers = {0x0028_0100: layout.bits_allocated, 0x0028_0101: layout.bits_stored, 0x0028_0102: layout.bits_stored - 1}
    attributes: Attributes = {tag: ("US", struct.pack("<H", number)) for tag, number in numbers.items()}
    attributes[0x0028_0004] = ("CS", text(layout.photometric))
    if layout.samples > 1:
        attributes[0x0028_0006] = ("US", b"\0\0")
    return attributes


def _lossiness(source: FrameSource) -> Attributes:
    return {0x0028_2110: ("CS", text("01"))} if source.transfer_syntax_uid in _LOSSY else {}
