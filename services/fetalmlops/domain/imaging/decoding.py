"""The frames of one instance, decoded one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fetalmlops.domain.imaging.codecs import decode
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.imaging.grey import Palette
    from fetalmlops.domain.imaging.source import FrameSource

__all__ = ["DecodedFrame", "black", "iter_frames"]


class DecodedFrame(NamedTuple):
    """One frame with its samples as stored; they may be read-only.

    Parameters
    ----------
    number
        DICOM frame number, from 1.
    pixels
        [rows, columns] or, in colour, [rows, columns, 3], one pixel after the other; ``uint8`` up to 8 bits, else ``uint16``.
    photometric
        What the samples mean now: decoding undoes the transform of JPEG 2000 (to RGB) and the subsampling of chrominance
        (to YBR_FULL).
    bits
        Bits per sample that count; the bits above are zero.
    """

    number: int
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[Any]
    photometric: Photometric
    bits: int


def iter_frames(source: FrameSource, wanted: Sequence[int] | None = None) -> Iterator[DecodedFrame]:
    """Decode frames one at a time; those that are not wanted are neither read nor decoded.

    Parameters
    ----------
    source
        The stored frames.
    wanted
        DICOM frame numbers, from 1; None for all.

    Raises
    ------
    PermanentError
        If a frame cannot be decoded (reason ``undecodable``) or differs from what the dataset says
        (``frames-inconsistent``).
    """
    for number in range(1, source.layout.frames + 1) if wanted is None else wanted:
        yield DecodedFrame(number, *decode(source.read(number), source.transfer_syntax_uid, source.layout))


def black(photometric: Photometric, bits: int, palette: Palette | None = None) -> tuple[int, ...]:
    """Return the samples of a black pixel.

    Parameters
    ----------
    photometric
        As a `DecodedFrame` says.
    bits
        Bits per sample that count.
    palette
        The palette, for PALETTE COLOR.

    Examples
    --------
    >>> black(Photometric.YBR_FULL, 8), black(Photometric.MONOCHROME1, 8)
    ((0, 128, 128), (255,))
    """
    if photometric is Photometric.PALETTE_COLOR:
        return (palette.black if palette else 0,)
    if photometric is Photometric.MONOCHROME1:
        return ((1 << bits) - 1,)
    if photometric.is_luminance:
        return (0, 1 << (bits - 1), 1 << (bits - 1))
    return (0,) * photometric.samples
