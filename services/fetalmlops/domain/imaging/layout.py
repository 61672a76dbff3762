"""How the pixels of a dataset are laid out (PS3.3 C.7.6.3, Image Pixel Module), checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fetalmlops.domain.imaging.faults import Fault, guarded, refuse

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["MAX_FRAMES", "MAX_PIXELS", "Photometric", "PixelLayout", "read_layout"]

MAX_PIXELS = 1 << 24
"""Most pixels of one frame: 4,096 x 4,096, far more than any ultrasound screen has."""

MAX_FRAMES = 100_000
"""Most frames of one instance: nearly an hour at 30 frames a second."""

_SIDE = 65_535
_MAX_BITS = 16


class Photometric(StrEnum):
    """What the samples of a pixel mean (PS3.3 C.7.6.3.1.2)."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"
    PALETTE_COLOR = "PALETTE COLOR"
    RGB = "RGB"
    YBR_FULL = "YBR_FULL"
    YBR_FULL_422 = "YBR_FULL_422"
    YBR_RCT = "YBR_RCT"
    YBR_ICT = "YBR_ICT"

    @property
    def samples(self) -> int:
        """Samples per pixel: 3 for colour, else 1."""
        return 1 if self in _ONE_SAMPLE else 3

    @property
    def is_luminance(self) -> bool:
        """Whether the first of three samples is the luminance."""
        return self in _LUMINANCE


_ONE_SAMPLE = (Photometric.MONOCHROME1, Photometric.MONOCHROME2, Photometric.PALETTE_COLOR)
_LUMINANCE = (Photometric.YBR_FULL, Photometric.YBR_FULL_422)


@dataclass(frozen=True, kw_only=True)
class PixelLayout:
    """Size and format of the frames of one instance.

    Parameters
    ----------
    rows, columns
        Size of a frame in pixels, 1 to 65,535 and at most `MAX_PIXELS` together.
    frames
        Number of frames, 1 to `MAX_FRAMES`.
    photometric
        What the samples mean.
    bits_allocated
        Bits per sample as stored, 8 or 16.
    bits_stored
        Bits per sample that count, from bit 0 up.
    planar
        Whether native colour frames hold one plane after the other instead of one pixel after the other.

    Raises
    ------
    PermanentError
        If a size is out of range (reason ``too-large`` or ``frames-inconsistent``) or the format is not one of these
        (``unsupported-pixel-format``).

    Examples
    --------
    >>> PixelLayout(rows=600, columns=800, photometric=Photometric.RGB).frame_bytes
    1440000
    """

    rows: int
    columns: int
    frames: int = 1
    photometric: Photometric = Photometric.MONOCHROME2
    bits_allocated: int = 8
    bits_stored: int = 8
    planar: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= _SIDE and 1 <= self.columns <= _SIDE and self.frames >= 1):
            refuse(Fault.FRAMES_INCONSISTENT, "Expected Rows, Columns and Number of Frames of at least 1, got others")
        if self.rows * self.columns > MAX_PIXELS or self.frames > MAX_FRAMES:
            refuse(Fault.TOO_LARGE, f"Expected at most {MAX_PIXELS} pixels a frame and {MAX_FRAMES} frames, got more")
        if self.bits_allocated not in (8, _MAX_BITS) or not 1 <= self.bits_stored <= self.bits_allocated:
            refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, "Expected 8 or 16 bits allocated and no more stored, got others")

    @property
    def samples(self) -> int:
        """Samples per pixel, 1 or 3."""
        return self.photometric.samples

    @property
    def frame_bytes(self) -> int:
        """Size of one native frame in bytes; two pixels of YBR_FULL_422 share their chrominance (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.photometric is Photometric.YBR_FULL_422 else self.samples
        return self.rows * self.columns * samples * (self.bits_allocated // 8)


def read_layout(dataset: Dataset) -> PixelLayout:
    """Read the layout from a dataset.

    Raises
    ------
    PermanentError
        As `PixelLayout`, and where an attribute is missing or malformed (``undecodable``).
    """
    with guarded("Expected the attributes of the Image Pixel Module, got a dataset without or with malformed ones"):
        stored = int(dataset.BitsStored)
        if dataset.get("PixelRepresentation") or _int(dataset, "HighBit", stored - 1) != stored - 1:
            refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, "Expected unsigned samples from bit 0 up, got others")
        layout = PixelLayout(
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            frames=_int(dataset, "NumberOfFrames", 1),
            photometric=_photometric(str(dataset.PhotometricInterpretation)),
            bits_allocated=int(dataset.BitsAllocated),
            bits_stored=stored,
            planar=bool(dataset.get("PlanarConfiguration")),
        )
        if _int(dataset, "SamplesPerPixel", 1) != layout.samples:
            refuse(
                Fault.FRAMES_INCONSISTENT, "Expected as many samples as the Photometric Interpretation has, got others"
            )
    return layout


def _int(dataset: Dataset, keyword: str, default: int) -> int:
    value = dataset.get(keyword)
    return default if value in (None, "") else int(value)


def _photometric(value: str) -> Photometric:
    try:
        return Photometric(value)
    except ValueError:
        known = ", ".join(Photometric)
        refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, f"Expected a Photometric Interpretation of {known}, got another")
