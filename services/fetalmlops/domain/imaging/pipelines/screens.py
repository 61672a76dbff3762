"""A plain picture, PNG or JPEG, as what `Pipeline.run` takes: the screens of data sets and of frame grabbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydicom.uid import JPEGBaseline8Bit

from fetalmlops.domain.imaging.bitstreams.codestream import Process, read_jpeg
from fetalmlops.domain.imaging.codecs import decode, decode_luminance
from fetalmlops.domain.imaging.faults import Fault, guarded, refuse
from fetalmlops.domain.imaging.geometry.regions import Geometry
from fetalmlops.domain.imaging.grey import to_grey, to_rgb
from fetalmlops.domain.imaging.layout import Photometric, PixelLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Screen", "open_screen"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_PNG_SIZE = slice(16, 24)
_BYTE = 8
_UNKNOWN = Geometry()


@dataclass(frozen=True, eq=False)
class Screen:
    """One picture.

    Parameters
    ----------
    pixels
        Its grey levels, ``uint8`` of [rows, columns].
    rgb
        The same in colour, [rows, columns, 3]; None where it has none.
    geometry
        What is known of its geometry.
    """

    pixels: NDArray[np.uint8]
    rgb: NDArray[np.uint8] | None = None
    geometry: Geometry = _UNKNOWN
    total_frames: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def grey(self, number: int) -> NDArray[np.uint8]:
        """Return the grey levels, whatever the number."""
        del number
        return self.pixels

    def colour(self, number: int) -> NDArray[np.uint8] | None:
        """Return the colours, whatever the number."""
        del number
        return self.rgb


def open_screen(data: bytes, geometry: Geometry | None = None) -> Screen:
    """Decode a PNG or an 8-bit JPEG.

    Parameters
    ----------
    data
        Its bytes.
    geometry
        Where the tissue lies and how large a pixel is, where that is known.

    Raises
    ------
    PermanentError
        If it is neither, cannot be decoded (reason ``undecodable``) or is too large (``too-large``).

    Examples
    --------
    >>> ok, png = cv2.imencode(".png", np.full((30, 40), 9, np.uint8))
    >>> open_screen(png.tobytes()).shape
    (30, 40)
    """
    with guarded("Expected a PNG or a JPEG that can be decoded, got one that cannot"):
        if data.startswith(_PNG):
            rows, columns = int.from_bytes(data[_PNG_SIZE][4:], "big"), int.from_bytes(data[_PNG_SIZE][:4], "big")
            PixelLayout(rows=rows, columns=columns)
            return _screen(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), geometry)
        if data.startswith(_JPEG):
            return _from_jpeg(data, geometry)
    return refuse(Fault.UNDECODABLE, "Expected the bytes of a PNG or a JPEG, got others; convert the picture to PNG")


def _from_jpeg(data: bytes, geometry: Geometry | None) -> Screen:
    header = read_jpeg(data)
    size = PixelLayout(rows=header.rows, columns=header.columns)
    if header.process is not Process.DCT or header.precision > _BYTE or len(header.components) not in (1, 3):
        refuse(Fault.UNDECODABLE, "Expected a JPEG of 8 bits in grey or three colours, got another; convert it to PNG")
    # As the same codestream within a dataset, so that both give the same levels to the last bit.
    layout = replace(
        size, photometric=Photometric.YBR_FULL_422 if len(header.components) > 1 else Photometric.MONOCHROME2
    )
    frame = decode(data, JPEGBaseline8Bit, layout)
    luminance = decode_luminance(data, JPEGBaseline8Bit, layout)
    rgb = to_rgb(frame) if layout.samples > 1 else None
    return Screen(to_grey(frame) if luminance is None else luminance, rgb, geometry or _UNKNOWN)


def _screen(pixels: NDArray[np.uint8] | None, geometry: Geometry | None) -> Screen:
    if pixels is None or pixels.dtype != np.uint8:
        refuse(Fault.UNDECODABLE, "Expected a PNG of 8 bits a sample, got another; convert it to 8 bits")
    if pixels.ndim == 2:
        return Screen(pixels, None, geometry or _UNKNOWN)
    code = cv2.COLOR_BGRA2RGB if pixels.shape[2] > 3 else cv2.COLOR_BGR2RGB
    rgb = np.asarray(cv2.cvtColor(pixels, code))
    return Screen(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)), rgb, geometry or _UNKNOWN)
