"""Access to the stored frames of one instance, one at a time, whatever the size of the whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from pydicom import uid

from fetalmlops.domain.imaging.bitstreams.fragments import locate_frames
from fetalmlops.domain.imaging.faults import Fault, refuse
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from fetalmlops.domain.imaging.bitstreams.fragments import Fragment
    from fetalmlops.domain.imaging.layout import PixelLayout

__all__ = ["ENCAPSULATED", "NATIVE", "FrameSource", "PixelData"]

NATIVE = frozenset((uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian))
"""UIDs of the transfer syntaxes with native frames."""

ENCAPSULATED = frozenset(
    (
        uid.RLELossless,
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
    )
)
"""UIDs of the transfer syntaxes with compressed frames."""

_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
_JPEG_2000_ONLY = (Photometric.YBR_RCT, Photometric.YBR_ICT)
_WORD_BITS = 16
_MOST_EXPANSION = 2
_SLACK = 1 << 20  # for application segments such as colour profiles


class PixelData(NamedTuple):
    """Where the value of a Pixel Data element lies.

    Parameters
    ----------
    vr
        Value representation as encoded, empty where the encoding states none.
    offset
        Offset of the value in the file.
    length
        Its length in bytes; None where it is undefined (encapsulated frames).
    """

    vr: str
    offset: int
    length: int | None


class FrameSource:
    r"""The stored frames of one instance, read by number from a file that is never read whole.

    Parameters
    ----------
    file
        A seekable binary file, which must stay open.
    transfer_syntax_uid
        One of `NATIVE` or `ENCAPSULATED`.
    layout
        Layout of the pixels.
    pixels
        Where the pixel data lies.

    Raises
    ------
    PermanentError
        If the transfer syntax is none of these (reason ``unsupported-transfer-syntax``) or the pixel data does not hold the
        frames of the layout (``undecodable``, ``frames-inconsistent``, ``too-large``).

    Examples
    --------
    >>> from fetalmlops.domain.imaging.layout import PixelLayout
    >>> source = FrameSource(io.BytesIO(bytes(range(8))), "1.2.840.10008.1.2.1", PixelLayout(rows=1, columns=4, frames=2),
    ...                      PixelData("OB", 0, 8))
    >>> source.read(2)
    b'\x04\x05\x06\x07'
    """

    def __init__(self, file: BinaryIO, transfer_syntax_uid: str, layout: PixelLayout, pixels: PixelData) -> None:
        if transfer_syntax_uid not in NATIVE | ENCAPSULATED:
            refuse(Fault.UNSUPPORTED_TRANSFER_SYNTAX, "Expected a transfer syntax that is negotiated, got another")
        self.layout = layout
        self.transfer_syntax_uid = transfer_syntax_uid
        self._file = file
        self._pixels = pixels
        size = file.seek(0, io.SEEK_END)
        if self.is_native:
            _check_native(layout, pixels, size)
            self._fragments: list[list[Fragment]] = []
        else:
            self._fragments = _locate_encapsulated(file, transfer_syntax_uid, layout, pixels, size)

    @property
    def is_native(self) -> bool:
        """Whether frames are stored uncompressed."""
        return self.transfer_syntax_uid in NATIVE

    def read(self, number: int) -> bytes:
        """Return the stored bytes of a frame; native samples of more than one byte in little-endian order.

        Parameters
        ----------
        number
            DICOM frame number, from 1.

        Raises
        ------
        PermanentError
            If the file ends within the frame (reason ``undecodable``).
        IndexError
            If there is no frame of this number.
        """
        if not 1 <= number <= self.layout.frames:
            msg = f"Expected a frame number from 1 to {self.layout.frames}, got {number}"
            raise IndexError(msg)
        if not self.is_native:
            return b"".join(self._take(*fragment) for fragment in self._fragments[number - 1])
        size = self.layout.frame_bytes
        start = (number - 1) * size
        if not self._in_big_endian_words:
            return self._take(self._pixels.offset + start, size)
        first = start % 2  # 8-bit frames of an odd size begin within a word
        words = self._take(self._pixels.offset + start - first, first + size + (first + size) % 2)
        return np.frombuffer(words, "<u2").byteswap().tobytes()[first : first + size]

    @property
    def _in_big_endian_words(self) -> bool:
        """Whether samples stand in 16-bit words of big-endian order (PS3.5 7.3)."""
        return self.transfer_syntax_uid == uid.ExplicitVRBigEndian and (
            self._pixels.vr == "OW" or self.layout.bits_allocated == _WORD_BITS
        )

    def _take(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) < length:
            refuse(Fault.UNDECODABLE, "Expected a whole frame, got a file that breaks off")
        return data


def _check_native(layout: PixelLayout, pixels: PixelData, size: int) -> None:
    if layout.photometric in _JPEG_2000_ONLY or (layout.photometric is Photometric.YBR_FULL_422 and layout.columns % 2):
        refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, "Expected a Photometric Interpretation of native frames, got another")
    if pixels.length is None or pixels.offset + pixels.length > size:
        refuse(
            Fault.UNDECODABLE,
            "Expected native pixel data that ends within the file, got an undefined or greater length",
        )
    if pixels.length < layout.frame_bytes * layout.frames:
        refuse(Fault.FRAMES_INCONSISTENT, "Expected pixel data of as many frames as the dataset states, got less")


def _locate_encapsulated(
    file: BinaryIO, transfer_syntax_uid: str, layout: PixelLayout, pixels: PixelData, size: int
) -> list[list[Fragment]]:
    if pixels.length is not None:
        refuse(Fault.UNDECODABLE, "Expected encapsulated pixel data of undefined length, got a defined one")
    if layout.photometric in _JPEG_2000_ONLY and transfer_syntax_uid not in _JPEG_2000:
        refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, "Expected a Photometric Interpretation of this syntax, got JPEG 2000's")
    frames = locate_frames(file, pixels.offset, size, layout.frames)
    most = _MOST_EXPANSION * layout.frame_bytes + _SLACK
    if any(sum(fragment.length for fragment in fragments) > most for fragments in frames):
        refuse(Fault.TOO_LARGE, "Expected compressed frames near the size of native ones at most, got a larger one")
    return frames
