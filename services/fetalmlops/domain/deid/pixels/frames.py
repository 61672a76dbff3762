"""Frames of an original in grey, with what was read of its header: for pictures that a person looks at."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from fetalmlops.domain.deid.faults import refuse
from fetalmlops.domain.deid.files.header import keep
from fetalmlops.domain.deid.files.reader import read_header
from fetalmlops.domain.deid.pixels.mask import pixel_layout
from fetalmlops.domain.deid.pixels.palette import read_palette
from fetalmlops.domain.deid.rules.attributes import IMAGE, PALETTE
from fetalmlops.domain.deid.rules.checks import Context
from fetalmlops.domain.imaging.codecs import Decoded
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.faults import Fault, guarded
from fetalmlops.domain.imaging.grey import Palette, to_grey
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.imaging.source import FrameSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from fetalmlops.domain.deid.files.reader import Item, Wanted
    from fetalmlops.domain.imaging.layout import PixelLayout

__all__ = ["FirstFrame", "Frame", "read_first_frame", "read_frames"]

_WANTED: Wanted = dict.fromkeys((*(rule.tag for rule in IMAGE), *PALETTE))


class Frame(NamedTuple):
    """One frame: its DICOM number, from 1, and its grey levels, ``uint8`` of [rows, columns]."""

    number: int
    grey: NDArray[np.uint8]


class FirstFrame(NamedTuple):
    """The first frame of an image in grey, ``uint8`` of [rows, columns], and what was read of its header."""

    dataset: Item
    layout: PixelLayout
    grey: NDArray[np.uint8]


def read_frames(file: IO[bytes]) -> list[Frame]:
    """Return the first, the middle and the last frame of an image, each once.

    Parameters
    ----------
    file
        Seekable binary file in Part 10 format.

    Raises
    ------
    PermanentError
        If it is no image, or cannot be decoded.
    """
    _, _, frames = _read(file, {}, lambda count: sorted({1, (count + 1) // 2, count}))
    return frames


def read_first_frame(file: IO[bytes], wanted: Wanted) -> FirstFrame:
    """Read the first frame of an image.

    Parameters
    ----------
    file
        Seekable binary file in Part 10 format.
    wanted
        What else is to be read of its header.

    Raises
    ------
    PermanentError
        If it cannot be read.
    """
    dataset, layout, (frame,) = _read(file, wanted, lambda _count: [1])
    return FirstFrame(dataset, layout, frame.grey)


def _read(
    file: IO[bytes], wanted: Wanted, numbers: Callable[[int], Iterable[int]]
) -> tuple[Item, PixelLayout, list[Frame]]:
    with guarded("Expected a DICOM image, got something else"):
        header = read_header(file, _WANTED | wanted)
        layout = pixel_layout(keep(header.dataset, IMAGE, Context()))
        if header.pixels is None:
            refuse("Expected an image with Pixel Data, got one without", Fault.NO_PIXEL_DATA)
        palette = None
        if layout.photometric is Photometric.PALETTE_COLOR:
            palette = Palette(read_palette(header.dataset, layout.bits_stored).colours.mean(axis=1).astype(np.uint8))
        source = FrameSource(header.file, header.transfer_syntax_uid, layout, header.pixels)
        frames = [
            Frame(frame.number, to_grey(Decoded(frame.pixels, frame.photometric, frame.bits), palette))
            for frame in iter_frames(source, list(numbers(layout.frames)))
        ]
        return header.dataset, layout, frames
