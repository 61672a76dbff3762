"""One frame's samples to the bytes of a transfer syntax, so that a long cine is never held uncompressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gdcm
import numpy as np
import simplejpeg
from pydicom import uid
from pydicom.pixels import get_encoder

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.simulation.pixels import Photometric, to_ybr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fetalmlops.domain.simulation.pixels import Layout

    Samples = NDArray[np.uint8] | NDArray[np.uint16]

__all__ = ["JPEG_QUALITY", "LOSSY_METHODS", "NEAR_ERROR", "encode_frame"]

JPEG_QUALITY = 92
"""Quality of JPEG baseline frames."""
NEAR_ERROR = 2
"""Largest error of a sample in JPEG-LS near-lossless frames."""
_J2K_RATIO = 12

LOSSY_METHODS = {
    uid.JPEGBaseline8Bit: "ISO_10918_1",
    uid.JPEGExtended12Bit: "ISO_10918_1",
    uid.JPEGLSNearLossless: "ISO_14495_1",
    uid.JPEG2000: "ISO_15444_1",
}
"""Lossy Image Compression Method (0028,2114) of the lossy transfer syntaxes."""


def encode_frame(samples: Samples, layout: Layout, transfer_syntax: str) -> bytes:
    """Return one frame in a transfer syntax.

    Parameters
    ----------
    samples
        The frame as `Layout.stored` returns it.
    layout
        How it is to be stored; checked with `Layout.check` before.
    transfer_syntax
        Transfer syntax UID.

    Raises
    ------
    PermanentError
        If the encoder fails.
    """
    if layout.photometric is Photometric.YBR_FULL and transfer_syntax != uid.JPEGBaseline8Bit:
        samples = to_ybr(samples.astype(np.uint8, copy=False))
    encoder = _ENCODERS.get(transfer_syntax)
    if encoder is not None:
        return encoder(samples, layout)
    return _native(samples, layout, big_endian=transfer_syntax == uid.ExplicitVRBigEndian)


def _native(samples: Samples, layout: Layout, *, big_endian: bool) -> bytes:
    if layout.photometric is Photometric.YBR_FULL_422:
        return _subsampled(to_ybr(samples.astype(np.uint8, copy=False)))
    if layout.planar and layout.colour:
        samples = samples.transpose(2, 0, 1)
    return samples.astype(samples.dtype.newbyteorder(">" if big_endian else "<"), copy=False).tobytes()


def _subsampled(ybr: NDArray[np.uint8]) -> bytes:
    """Return YBR_FULL_422: two luminances, then the chrominances of the first of the pair."""
    rows, columns, _ = ybr.shape
    pairs = ybr.reshape(rows, columns // 2, 2, 3)
    packed = np.stack([pairs[:, :, 0, 0], pairs[:, :, 1, 0], pairs[:, :, 0, 1], pairs[:, :, 0, 2]], axis=2)
    return packed.tobytes()


def _baseline(samples: Samples, layout: Layout) -> bytes:
    if not layout.colour:
        return bytes(simplejpeg.encode_jpeg(samples[..., None], quality=JPEG_QUALITY, colorspace="GRAY"))
    chroma = "422" if layout.photometric is Photometric.YBR_FULL_422 else "444"
    rgb = np.ascontiguousarray(samples)
    return bytes(simplejpeg.encode_jpeg(rgb, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling=chroma))


_GDCM_PHOTOMETRIC = {
    Photometric.MONOCHROME1: gdcm.PhotometricInterpretation.MONOCHROME2,
    Photometric.MONOCHROME2: gdcm.PhotometricInterpretation.MONOCHROME2,
    Photometric.PALETTE: gdcm.PhotometricInterpretation.MONOCHROME2,
    Photometric.RGB: gdcm.PhotometricInterpretation.RGB,
    Photometric.YBR_FULL: gdcm.PhotometricInterpretation.YBR_FULL,
}


def _by_gdcm(syntax: int) -> Callable[[Samples, Layout], bytes]:
    def encode(samples: Samples, layout: Layout) -> bytes:
        return _gdcm_frame(samples, layout, syntax)

    return encode


def _gdcm_frame(samples: Samples, layout: Layout, syntax: int) -> bytes:
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimension(0, samples.shape[1])
    image.SetDimension(1, samples.shape[0])
    image.SetPixelFormat(gdcm.PixelFormat(layout.samples, _allocated(layout, syntax), layout.bits, layout.bits - 1, 0))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(_GDCM_PHOTOMETRIC[layout.photometric]))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(samples.tobytes())
    image.SetDataElement(element)
    # The filter takes the image over and frees it: Python must not free it a second time.
    image.thisown = False
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(image)
    if not change.Change():
        msg = f"Expected GDCM to encode a frame of shape {samples.shape}, got a refusal; choose another transfer syntax"
        raise PermanentError(msg, reason="encoding")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    parts = [
        fragments.GetFragment(index).GetByteValue().GetBuffer() for index in range(fragments.GetNumberOfFragments())
    ]
    return b"".join(part.encode("utf-8", "surrogateescape") for part in parts)


def _allocated(layout: Layout, syntax: int) -> int:
    """Return the bits by which GDCM chooses the precision of a frame: a lossy process has 8 or 12 (ISO/IEC 10918-1 B.2.2)."""
    return layout.bits if syntax == gdcm.TransferSyntax.JPEGExtendedProcess2_4 else layout.bits_allocated


def _by_pydicom(syntax: uid.UID, plugin: str, **options: object) -> Callable[[Samples, Layout], bytes]:
    def encode(samples: Samples, layout: Layout) -> bytes:
        frame = get_encoder(syntax).encode(
            np.ascontiguousarray(samples),
            encoding_plugin=plugin,
            rows=samples.shape[0],
            columns=samples.shape[1],
            samples_per_pixel=layout.samples,
            number_of_frames=1,
            bits_allocated=layout.bits_allocated,
            bits_stored=layout.bits,
            pixel_representation=0,
            photometric_interpretation=str(layout.photometric),
            **({"planar_configuration": 0} if layout.colour else {}),
            **options,
        )
        return bytes(frame)

    return encode


_ENCODERS: dict[str, Callable[[Samples, Layout], bytes]] = {
    uid.RLELossless: _by_pydicom(uid.RLELossless, "pylibjpeg"),
    uid.JPEGBaseline8Bit: _baseline,
    uid.JPEGExtended12Bit: _by_gdcm(gdcm.TransferSyntax.JPEGExtendedProcess2_4),
    uid.JPEGLossless: _by_gdcm(gdcm.TransferSyntax.JPEGLosslessProcess14),
    uid.JPEGLosslessSV1: _by_gdcm(gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    uid.JPEGLSLossless: _by_pydicom(uid.JPEGLSLossless, "pyjpegls"),
    uid.JPEGLSNearLossless: _by_pydicom(uid.JPEGLSNearLossless, "pyjpegls", jls_error=NEAR_ERROR),
    uid.JPEG2000Lossless: _by_pydicom(uid.JPEG2000Lossless, "pylibjpeg"),
    uid.JPEG2000: _by_pydicom(uid.JPEG2000, "pylibjpeg", j2k_cr=[_J2K_RATIO]),
}
