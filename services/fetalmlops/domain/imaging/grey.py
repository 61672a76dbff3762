"""Samples to grey levels: every photometric interpretation to ``uint8``, black 0 and white 255."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydicom.pixels.processing import apply_color_lut

from fetalmlops.domain.imaging.faults import Fault, guarded, refuse
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from fetalmlops.domain.imaging.codecs import Decoded

__all__ = ["Palette", "read_palette", "to_grey", "to_rgb"]

_BYTE = 8
_WHITE = 255
_TABLES = tuple(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue"))


@dataclass(frozen=True, eq=False)
class Palette:
    """What the values of PALETTE COLOR pixels mean (PS3.3 C.7.9).

    Parameters
    ----------
    grey
        Luminance of each pixel value, ``uint8`` of [2 ** bits stored].

    Examples
    --------
    >>> Palette(np.array([9, 0, 255, 40], np.uint8)).black
    1
    """

    grey: NDArray[np.uint8]

    @property
    def black(self) -> int:
        """The darkest pixel value."""
        return int(np.argmin(self.grey))


def read_palette(dataset: Dataset, bits: int) -> Palette:
    """Read the palette of a dataset.

    Parameters
    ----------
    dataset
        Holds the Palette Color Lookup Table Module, its original encoding set.
    bits
        Bits stored per pixel.

    Raises
    ------
    PermanentError
        If the module is missing or malformed (reason ``undecodable``).
    """
    with guarded("Expected a Palette Color Lookup Table for PALETTE COLOR pixels, got none or a malformed one"):
        ramp = np.arange(1 << bits, dtype=np.uint16)
        colours = apply_color_lut(ramp, _in_little_endian(dataset))[np.newaxis, :, :3]
        # Entries of 16 bits span all of them, unless a writer has put 8-bit entries into 16-bit cells.
        scale = 1 / 257 if colours.max() > _WHITE else 1
        return Palette(cv2.cvtColor(cv2.convertScaleAbs(colours, alpha=scale), cv2.COLOR_RGB2GRAY)[0])


def _in_little_endian(dataset: Dataset) -> Dataset:
    """Return a dataset whose tables, segmented ones apart, are in little-endian words: so pydicom reads them in any case."""
    _, little = dataset.original_encoding
    if little:
        return dataset
    swapped = copy(dataset)
    for element in dataset:
        if element.keyword in _TABLES and element.VR == "OW":
            words = np.frombuffer(element.value, "<u2").byteswap()
            swapped.add_new(element.tag, element.VR, words.tobytes())
    return swapped


def to_grey(frame: Decoded, palette: Palette | None = None) -> NDArray[np.uint8]:
    """Return the grey levels of a decoded frame, [rows, columns].

    Colour becomes its luminance (ITU-R BT.601, as in YBR_FULL); deeper samples are scaled to 8 bits.

    Raises
    ------
    PermanentError
        If the frame needs a palette and there is none (reason ``undecodable``).

    Examples
    --------
    >>> from fetalmlops.domain.imaging.codecs import Decoded
    >>> to_grey(Decoded(np.array([[0, 4095]], np.uint16), Photometric.MONOCHROME1, 12))
    array([[255,   0]], dtype=uint8)
    """
    if frame.photometric is Photometric.PALETTE_COLOR:
        return _looked_up(frame.pixels, palette)
    pixels = frame.pixels
    if frame.photometric is Photometric.YBR_FULL:
        pixels = cv2.extractChannel(pixels, 0)
    elif frame.photometric is Photometric.RGB:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if frame.bits != _BYTE:
        pixels = cv2.convertScaleAbs(pixels, alpha=_WHITE / ((1 << frame.bits) - 1))
    return np.asarray(cv2.bitwise_not(pixels) if frame.photometric is Photometric.MONOCHROME1 else pixels)


def to_rgb(frame: Decoded) -> NDArray[np.uint8]:
    """Return the colours of a decoded frame of three samples, RGB ``uint8`` of [rows, columns, 3].

    Examples
    --------
    >>> from fetalmlops.domain.imaging.codecs import Decoded
    >>> to_rgb(Decoded(np.array([[[76, 85, 255]]], np.uint8), Photometric.YBR_FULL, 8)).tolist()
    [[[254, 0, 0]]]
    """
    pixels = frame.pixels
    if frame.bits != _BYTE:
        pixels = cv2.convertScaleAbs(pixels, alpha=_WHITE / ((1 << frame.bits) - 1))
    if frame.photometric is Photometric.YBR_FULL:
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)
    return np.asarray(pixels)


def _looked_up(pixels: NDArray[Any], palette: Palette | None) -> NDArray[np.uint8]:
    if palette is None:
        refuse(Fault.UNDECODABLE, "Expected a palette for PALETTE COLOR pixels, got none")
    if pixels.dtype == np.uint8 and palette.grey.size == _WHITE + 1:
        return np.asarray(cv2.LUT(pixels, palette.grey))
    return np.take(palette.grey, pixels, mode="clip")
