"""Pixel layouts: how a rendered screen is stored in a dataset (PS3.3 C.7.6.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydicom import uid

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PALETTE", "Layout", "Photometric", "to_ybr"]


class Photometric(StrEnum):
    """Photometric Interpretation (0028,0004)."""

    MONOCHROME1 = "MONOCHROME1"
    MONOCHROME2 = "MONOCHROME2"
    PALETTE = "PALETTE COLOR"
    RGB = "RGB"
    YBR_FULL = "YBR_FULL"
    YBR_FULL_422 = "YBR_FULL_422"
    YBR_RCT = "YBR_RCT"
    YBR_ICT = "YBR_ICT"


_GREY = frozenset({Photometric.MONOCHROME1, Photometric.MONOCHROME2})
_INDEXED = _GREY | {Photometric.PALETTE}
_NATIVE = _INDEXED | {Photometric.RGB, Photometric.YBR_FULL, Photometric.YBR_FULL_422}
_ALLOWED: dict[str, frozenset[Photometric]] = {
    uid.ImplicitVRLittleEndian: _NATIVE,
    uid.ExplicitVRLittleEndian: _NATIVE,
    uid.ExplicitVRBigEndian: _NATIVE,
    uid.DeflatedExplicitVRLittleEndian: _NATIVE,
    uid.RLELossless: _INDEXED | {Photometric.RGB, Photometric.YBR_FULL},
    uid.JPEGBaseline8Bit: _GREY | {Photometric.YBR_FULL, Photometric.YBR_FULL_422},
    uid.JPEGExtended12Bit: _GREY,
    uid.JPEGLossless: _INDEXED | {Photometric.RGB, Photometric.YBR_FULL},
    uid.JPEGLosslessSV1: _INDEXED | {Photometric.RGB, Photometric.YBR_FULL},
    uid.JPEGLSLossless: _INDEXED | {Photometric.RGB, Photometric.YBR_FULL},
    uid.JPEGLSNearLossless: _GREY | {Photometric.RGB},
    uid.JPEG2000Lossless: _INDEXED | {Photometric.RGB, Photometric.YBR_RCT},
    uid.JPEG2000: _GREY | {Photometric.RGB, Photometric.YBR_ICT},
}
"""Photometric interpretations that each transfer syntax can carry (PS3.5 8.2)."""

_TWELVE_BIT = frozenset(_ALLOWED) - {uid.JPEGBaseline8Bit, uid.RLELossless}


def _palette() -> NDArray[np.uint8]:
    grey = np.arange(256) / 255
    return np.rint(255 * np.stack([grey**0.8, grey, grey**1.3], axis=1)).astype(np.uint8)


PALETTE: NDArray[np.uint8] = _palette()
"""The palette of PALETTE COLOR: a warm tint, uint8 of shape (256, 3), index to RGB."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How pixels are stored.

    Parameters
    ----------
    photometric
        Photometric Interpretation.
    planar
        Planar Configuration: 0 colour by pixel, 1 colour by plane.
    bits
        Bits Stored: 8, or 12 for grey.
    """

    photometric: Photometric = Photometric.MONOCHROME2
    planar: int = 0
    bits: int = 8

    @property
    def colour(self) -> bool:
        """Whether a pixel has three samples."""
        return self.photometric not in _INDEXED

    @property
    def samples(self) -> int:
        """Samples per Pixel."""
        return 3 if self.colour else 1

    @property
    def bits_allocated(self) -> int:
        """Bits Allocated."""
        return 8 if self.bits <= 8 else 16

    def check(self, transfer_syntax: str) -> None:
        """Check that a transfer syntax can carry this layout.

        Raises
        ------
        ContractError
            If it cannot; names what it can carry.
        """
        allowed = _ALLOWED.get(transfer_syntax)
        if allowed is None:
            msg = f"Expected a transfer syntax among {', '.join(_ALLOWED)}, got another; choose one of these"
            raise ContractError(msg)
        if self.photometric not in allowed:
            msg = f"Expected one of {', '.join(sorted(allowed))} with {transfer_syntax}, got {self.photometric}; change one"
            raise ContractError(msg)
        native = allowed is _NATIVE
        if self.planar not in (0, 1) or (
            self.planar and not (native and self.photometric is not Photometric.YBR_FULL_422)
        ):
            msg = f"Expected planar configuration 0 with {self.photometric} in {transfer_syntax}, got {self.planar}"
            raise ContractError(msg)
        if self.bits not in (8, 12) or (
            self.bits == 12 and (self.photometric not in _GREY or transfer_syntax not in _TWELVE_BIT)
        ):
            msg = f"Expected 8 bits, or 12 bits for grey in a syntax that has them, got {self.bits} with {transfer_syntax}"
            raise ContractError(msg)

    def stored(self, screen: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return a screen's samples as an encoder takes them.

        Parameters
        ----------
        screen
            Grey uint8 (rows, columns), or RGB uint8 (rows, columns, 3) for colour layouts.

        Returns
        -------
        ndarray
            Grey values, indices or RGB, colour by pixel; the encoder makes YBR of RGB where asked.
        """
        if self.colour or self.photometric is Photometric.PALETTE:
            return screen
        grey = 255 - screen if self.photometric is Photometric.MONOCHROME1 else screen
        if self.bits == 8:
            return grey
        wide: NDArray[np.uint16] = grey.astype(np.uint16)
        wide <<= 4
        wide |= grey >> 4
        return wide


def to_ybr(screen: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB as YBR_FULL (PS3.3 C.7.6.3.1.2): luminance, blue and red chrominance."""
    swapped = cv2.cvtColor(screen, cv2.COLOR_RGB2YCrCb)
    return np.ascontiguousarray(swapped[..., [0, 2, 1]])
