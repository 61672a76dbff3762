"""Pixels: a mask that lets through the proven rectangles only, and the writing of native frames through it.

The layout of the pixels is that of `fetalmlops.domain.imaging`; the order of samples within a frame is told apart here,
because native frames are masked as they are stored (PS3.3 C.7.6.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from fetalmlops.domain.deid.faults import refuse
from fetalmlops.domain.deid.files.reader import EXPLICIT_LITTLE
from fetalmlops.domain.deid.files.writer import Attributes, native_pixels_head
from fetalmlops.domain.imaging.codecs import decode
from fetalmlops.domain.imaging.decoding import DecodedFrame, black
from fetalmlops.domain.imaging.faults import Fault
from fetalmlops.domain.imaging.layout import Photometric, PixelLayout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

    from numpy.typing import NDArray

    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.domain.deid.rules.checks import Kept
    from fetalmlops.domain.imaging.source import FrameSource

__all__ = ["FrameMask", "Order", "PixelPlan", "Watch", "native_plan", "pixel_layout"]

_LONGEST_NATIVE = 0xFFFFFFFE
_SAMPLES, _PHOTOMETRIC, _PLANAR, _FRAMES = 0x0028_0002, 0x0028_0004, 0x0028_0006, 0x0028_0008
_ROWS, _COLUMNS, _ALLOCATED, _STORED, _HIGH, _SIGNED = (
    0x0028_0010,
    0x0028_0011,
    0x0028_0100,
    0x0028_0101,
    0x0028_0102,
    0x0028_0103,
)
_REQUIRED = (_SAMPLES, _PHOTOMETRIC, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _HIGH, _SIGNED)
_BYTE = 8

Watch = Callable[[DecodedFrame], None]
"""Is shown each frame, whole, before it is masked."""


class Order(Enum):
    """Order of the samples of a frame."""

    GREY = "rows, columns"
    INTERLEAVED = "rows, columns, samples"
    PLANAR = "samples, rows, columns"
    PAIRS = "rows, pairs of columns, (luminance, luminance, blue, red)"

    @classmethod
    def native(cls, layout: PixelLayout) -> Order:
        """Return the order of native frames."""
        if layout.samples == 1:
            return cls.GREY
        if layout.photometric is Photometric.YBR_FULL_422:
            return cls.PAIRS
        return cls.PLANAR if layout.planar else cls.INTERLEAVED

    def shape(self, layout: PixelLayout) -> tuple[int, ...]:
        """Shape of one frame in this order."""
        rows, columns, samples = layout.rows, layout.columns, layout.samples
        return {
            Order.GREY: (rows, columns),
            Order.INTERLEAVED: (rows, columns, samples),
            Order.PLANAR: (samples, rows, columns),
            Order.PAIRS: (rows, columns // 2, 4),
        }[self]


@dataclass(frozen=True)
class PixelPlan:
    """How the pixels will be written: decided before the first byte, so that the header can say it.

    Parameters
    ----------
    transfer_syntax_uid
        Encoding of the result.
    rectangles
        Areas that are kept.
    write
        Writes the Pixel Data element.
    attributes
        Attributes of the image that the writing changes.
    """

    transfer_syntax_uid: str
    rectangles: tuple[Rectangle, ...]
    write: Callable[[IO[bytes]], None]
    attributes: Attributes = field(default_factory=dict)


def pixel_layout(kept: Mapping[int, Kept]) -> PixelLayout:
    """Return the layout that the kept attributes state.

    Raises
    ------
    PermanentError
        If an attribute is missing or out of range (reason ``unsupported-pixel-format``), and as `PixelLayout`.
    """
    if not all(tag in kept for tag in _REQUIRED):
        refuse("Expected a complete Image Pixel module, got one with gaps", Fault.UNSUPPORTED_PIXEL_FORMAT)
    number = {tag: int(kept[tag].numbers[0]) for tag in kept if kept[tag].numbers}
    layout = PixelLayout(
        rows=number[_ROWS],
        columns=number[_COLUMNS],
        frames=number.get(_FRAMES, 1),
        photometric=Photometric(kept[_PHOTOMETRIC].words[0]),
        bits_allocated=number[_ALLOCATED],
        bits_stored=number[_STORED],
        planar=bool(number.get(_PLANAR, 0)),
    )
    if number[_SIGNED] or number[_HIGH] + 1 != layout.bits_stored or number[_SAMPLES] != layout.samples:
        refuse("Expected unsigned samples from bit 0 up, as many as the colours need", Fault.UNSUPPORTED_PIXEL_FORMAT)
    return layout


class FrameMask:
    """Lets through the proven rectangles of frames, bit for bit, without the bits that store no pixel.

    Parameters
    ----------
    layout
        Layout of the frames.
    order
        Order of their samples; in pairs the rectangles shrink to whole pairs.
    rectangles
        Areas to keep.
    darkest
        Palette index of the darkest colour, for palette images.
    """

    def __init__(self, layout: PixelLayout, order: Order, rectangles: tuple[Rectangle, ...], darkest: int = 0) -> None:
        if order is Order.PAIRS:
            rectangles = tuple((x0 + x0 % 2, y0, x1 - x1 % 2, y1) for x0, y0, x1, y1 in rectangles)
        self.rectangles = rectangles
        self._layout = layout
        self._order = order
        self._places = [self._place(rectangle) for rectangle in rectangles]
        self._used_bits = (1 << layout.bits_stored) - 1
        self._darkest = darkest

    def blank(self) -> NDArray[np.integer[Any]]:
        """Return a frame without a picture: black in the image's own terms, little endian."""
        layout = self._layout
        black_ = black(layout.photometric, layout.bits_stored)
        if layout.photometric is Photometric.PALETTE_COLOR:
            black_ = (self._darkest,)
        elif self._order is Order.PAIRS:
            black_ = (black_[0], *black_)
        samples = np.array(black_, "<u1" if layout.bits_allocated == _BYTE else "<u2")
        shape = self._order.shape(layout)
        if self._order is Order.PLANAR:
            return np.broadcast_to(samples[:, np.newaxis, np.newaxis], shape).copy()
        # One row first: copying a frame from three samples takes a hundred times longer.
        row = np.broadcast_to(samples, shape[1:]).copy()
        return np.broadcast_to(row, shape).copy()

    def let_through(self, frame: NDArray[np.integer[Any]], into: NDArray[np.integer[Any]]) -> None:
        """Copy the rectangles of a frame into a blank one."""
        for place in self._places:
            into[place] = frame[place]
            if self._layout.bits_stored < self._layout.bits_allocated:
                into[place] &= self._used_bits

    def _place(self, rectangle: Rectangle) -> tuple[slice, ...]:
        x0, y0, x1, y1 = rectangle
        if self._order is Order.PAIRS:
            return slice(y0, y1), slice(x0 // 2, x1 // 2)
        if self._order is Order.PLANAR:
            return slice(None), slice(y0, y1), slice(x0, x1)
        return slice(y0, y1), slice(x0, x1)


def native_plan(
    source: FrameSource, rectangles: tuple[Rectangle, ...], darkest: int = 0, watch: Watch | None = None
) -> PixelPlan:
    """Return the plan for native pixels: masked as they are stored, frame by frame, Explicit VR Little Endian.

    What lies beyond the frames is left behind. `watch` is shown each frame as the writing comes to it.
    """
    mask = FrameMask(source.layout, Order.native(source.layout), rectangles, darkest)
    size = source.layout.frame_bytes * source.layout.frames
    if size > _LONGEST_NATIVE:
        refuse(f"Expected at most {_LONGEST_NATIVE} bytes of native pixels, got more", Fault.TOO_LARGE)
    return PixelPlan(EXPLICIT_LITTLE, mask.rectangles, lambda target: _write_native(source, mask, size, target, watch))


def _write_native(source: FrameSource, mask: FrameMask, size: int, target: IO[bytes], watch: Watch | None) -> None:
    layout = source.layout
    target.write(native_pixels_head("OB" if layout.bits_allocated == _BYTE else "OW", size + size % 2))
    frame = mask.blank()
    for number in range(1, layout.frames + 1):
        stored = source.read(number)
        if watch:
            watch(DecodedFrame(number, *decode(stored, source.transfer_syntax_uid, layout)))
        mask.let_through(np.frombuffer(stored, frame.dtype).reshape(frame.shape), into=frame)
        target.write(frame.data)
    target.write(bytes(size % 2))
