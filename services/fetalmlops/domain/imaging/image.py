"""One instance opened for its pixels: frames, geometry and palette, and nothing else of its dataset."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from pydicom import uid
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.tag import Tag

from fetalmlops.domain.imaging.codecs import decode, decode_luminance
from fetalmlops.domain.imaging.faults import Fault, guarded, refuse
from fetalmlops.domain.imaging.geometry.regions import Geometry, read_geometry
from fetalmlops.domain.imaging.grey import Palette, read_palette, to_grey, to_rgb
from fetalmlops.domain.imaging.layout import Photometric, read_layout
from fetalmlops.domain.imaging.source import ENCAPSULATED, NATIVE, FrameSource, PixelData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

__all__ = ["Image", "open_image"]

_PREFIX_OFFSET = 128
_UNDEFINED = 0xFFFFFFFF
_META_GROUP = 0x0002
_TRANSFER_SYNTAX = 0x0002_0010
_PIXEL_DATA = 0x7FE0_0010
_OTHER_PIXEL_DATA = (0x7FE0_0008, 0x7FE0_0009)  # of floating point
_WANTED = [
    Tag(keyword)
    for keyword in (
        "SequenceOfUltrasoundRegions",
        "PixelSpacing",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        *(
            f"{segmented}{colour}PaletteColorLookupTable{part}"
            for colour in ("Red", "Green", "Blue")
            for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
        ),
    )
]


@dataclass(frozen=True)
class Image:
    """The frames of one instance and what is needed to understand them.

    Parameters
    ----------
    source
        The stored frames.
    geometry
        Where the tissue lies, and how large a pixel is.
    palette
        Meaning of PALETTE COLOR pixels, None for all others.
    """

    source: FrameSource
    geometry: Geometry
    palette: Palette | None = None

    @property
    def total_frames(self) -> int:
        """Number of frames."""
        return self.source.layout.frames

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.source.layout.rows, self.source.layout.columns

    def grey(self, number: int) -> NDArray[np.uint8]:
        """Decode the grey levels of one frame, [rows, columns].

        Parameters
        ----------
        number
            DICOM frame number, from 1.

        Raises
        ------
        PermanentError
            If the frame cannot be decoded (reason ``undecodable``) or differs from what the dataset says
            (``frames-inconsistent``).
        """
        source = self.source
        data = source.read(number)
        luminance = decode_luminance(data, source.transfer_syntax_uid, source.layout)
        if luminance is not None:
            return luminance
        return to_grey(decode(data, source.transfer_syntax_uid, source.layout), self.palette)

    def colour(self, number: int) -> NDArray[np.uint8] | None:
        """Decode one frame in colour, RGB of [rows, columns, 3]; None where its frames are grey or of a tinted palette.

        Raises as `grey`.
        """
        source = self.source
        if source.layout.samples == 1:
            return None
        return to_rgb(decode(source.read(number), source.transfer_syntax_uid, source.layout))


def open_image(file: BinaryIO) -> Image:
    """Open a Part 10 file for its pixels; frames are read later, one by one, and the file must stay open until then.

    Parameters
    ----------
    file
        A seekable binary file.

    Raises
    ------
    PermanentError
        If it is not DICOM (reason ``undecodable``), has no pixels (``no-pixel-data``), or its pixels cannot be used (any
        other of `Fault`).
    """
    bounded = cast("BinaryIO", _Bounded(file))
    with guarded("Expected a Part 10 file (PS3.10), got one that cannot be read"):
        transfer_syntax_uid = _read_transfer_syntax(bounded)
        if transfer_syntax_uid not in NATIVE | ENCAPSULATED:
            refuse(Fault.UNSUPPORTED_TRANSFER_SYNTAX, "Expected a transfer syntax that is negotiated, got another")
        dataset = _read_header(bounded, transfer_syntax_uid)
        pixels = _find_pixels(bounded, transfer_syntax_uid)
    layout = read_layout(dataset)
    coloured = layout.photometric is Photometric.PALETTE_COLOR
    return Image(
        source=FrameSource(file, transfer_syntax_uid, layout, pixels),
        geometry=read_geometry(dataset, layout.rows, layout.columns),
        palette=read_palette(dataset, layout.bits_stored) if coloured else None,
    )


class _Bounded:
    """A file whose reads never ask for more than it has: a read reserves memory for all it is asked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self.seek = file.seek
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))


def _read_transfer_syntax(file: BinaryIO) -> str:
    file.seek(_PREFIX_OFFSET)
    if file.read(4) != b"DICM":
        refuse(Fault.UNDECODABLE, "Expected a Part 10 file (PS3.10), got one without its prefix")
    found = ""
    for element in data_element_generator(file, False, True, stop_when=lambda tag, *_: tag >> 16 != _META_GROUP):
        if element.tag == _TRANSFER_SYNTAX:
            found = element.value.rstrip(b"\0 ").decode("ascii")
    return found


def _read_header(file: BinaryIO, transfer_syntax_uid: str) -> Dataset:
    implicit = transfer_syntax_uid == uid.ImplicitVRLittleEndian
    little = transfer_syntax_uid != uid.ExplicitVRBigEndian
    stops = (_PIXEL_DATA, *_OTHER_PIXEL_DATA)
    dataset = read_dataset(file, implicit, little, stop_when=lambda tag, *_: tag in stops, specific_tags=_WANTED)
    dataset.set_original_encoding(implicit, little)
    return dataset


def _find_pixels(file: BinaryIO, transfer_syntax_uid: str) -> PixelData:
    order = ">" if transfer_syntax_uid == uid.ExplicitVRBigEndian else "<"
    head = file.read(8)
    if len(head) < 8 or struct.unpack_from(order + "HH", head) != (_PIXEL_DATA >> 16, _PIXEL_DATA & 0xFFFF):
        refuse(Fault.NO_PIXEL_DATA, "Expected Pixel Data (7FE0,0010), got none")
    vr = ""
    if transfer_syntax_uid == uid.ImplicitVRLittleEndian:
        (length,) = struct.unpack_from("<I", head, 4)
    else:
        vr = head[4:6].decode("ascii")
        if vr not in ("OB", "OW", "UN"):
            refuse(Fault.UNDECODABLE, "Expected Pixel Data of value representation OB or OW, got another")
        (length,) = struct.unpack(order + "I", file.read(4))
    return PixelData(vr, file.tell(), None if length == _UNDEFINED else length)
