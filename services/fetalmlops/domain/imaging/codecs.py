"""One decoder for each way in which a frame can be coded, chosen by measurement and never by what happens to be installed.

All 8-bit JPEG, lossless included, goes to libjpeg-turbo (simplejpeg), deeper JPEG to GDCM, JPEG-LS to CharLS, JPEG 2000 to
OpenJPEG. Each frame's own header is checked against the dataset before its decoder runs.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import gdcm
import jpeg_ls
import numpy as np
import openjpeg
import simplejpeg
from pydicom import uid
from rle.rle import decode_frame as decode_rle_frame

from fetalmlops.domain.imaging.bitstreams.codestream import Process, read_jpeg, read_jpeg_2000
from fetalmlops.domain.imaging.faults import Fault, guarded, refuse
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fetalmlops.domain.imaging.bitstreams.codestream import Codestream
    from fetalmlops.domain.imaging.layout import PixelLayout

__all__ = ["Decoded", "decode", "decode_luminance"]

_BYTE = 8
_DEEP_DCT_BITS = 12
_RGB_IDS = (tuple(b"RGB"), tuple(b"rgb"))
_UNUSED_SEGMENT = 0xEF
_END_OF_IMAGE = b"\xff\xd9"
_BASELINE = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_WAVELET = (uid.JPEG2000Lossless, uid.JPEG2000)


class Decoded(NamedTuple):
    """One frame with its samples as stored.

    Parameters
    ----------
    pixels
        [rows, columns] or, in colour, [rows, columns, 3]; ``uint8`` up to 8 bits, else ``uint16``.
    photometric
        What the samples mean now: decoding undoes the transform of JPEG 2000 and the subsampling of chrominance.
    bits
        Bits per sample that count.
    """

    pixels: NDArray[Any]
    photometric: Photometric
    bits: int


def decode(data: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> Decoded:
    """Decode one stored frame.

    Parameters
    ----------
    data
        Its bytes; native samples in little-endian order.
    transfer_syntax_uid
        How it is coded.
    layout
        What the dataset says of it.

    Raises
    ------
    PermanentError
        If it cannot be decoded (reason ``undecodable``) or differs from what the dataset says (``frames-inconsistent``).
    """
    with guarded("Expected a frame that its transfer syntax's decoder reads, got one that it does not"):
        return _DECODERS.get(transfer_syntax_uid, _decode_native)(data, layout)


def decode_luminance(data: bytes, transfer_syntax_uid: str, layout: PixelLayout) -> NDArray[np.uint8] | None:
    """Decode the luminance of a colour frame alone, [rows, columns], where its coding allows that.

    Returns None where it does not. Raises as `decode`.
    """
    if transfer_syntax_uid not in _JPEG or layout.samples == 1:
        return None
    with guarded("Expected a frame that its transfer syntax's decoder reads, got one that it does not"):
        header = _checked(read_jpeg(data), layout)
        if header.process is not Process.DCT or header.precision > _BYTE:
            return None
        return _libjpeg(_declare(data, header, transform=_is_luminance(header, layout)), "GRAY")[..., 0]


def _decode_native(data: bytes, layout: PixelLayout) -> Decoded:
    samples = np.frombuffer(data, "<u2" if layout.bits_allocated > _BYTE else np.uint8)
    if layout.bits_stored < layout.bits_allocated:
        samples = samples & samples.dtype.type((1 << layout.bits_stored) - 1)  # overlays may stand in the bits above
    if layout.photometric is Photometric.YBR_FULL_422:
        return Decoded(_expand_422(samples, layout), Photometric.YBR_FULL, layout.bits_stored)
    return Decoded(_shaped(samples, layout, planar=layout.planar), layout.photometric, layout.bits_stored)


def _decode_rle(data: bytes, layout: PixelLayout) -> Decoded:
    size = layout.rows * layout.columns
    decoded = decode_rle_frame(data, size, layout.bits_allocated, "<")
    # An RLE frame states no size, and its decoder gives as much of it as is asked for: there must not be a row more.
    with suppress(ValueError):
        decode_rle_frame(data, size + layout.columns, layout.bits_allocated, "<")
        refuse(Fault.FRAMES_INCONSISTENT, "Expected a frame of the size that the dataset states, got a larger one")
    samples = np.frombuffer(decoded, "<u2" if layout.bits_allocated > _BYTE else np.uint8)
    pixels = _shaped(samples, layout, planar=True)
    return Decoded(pixels, _full(layout.photometric), layout.bits_stored)


def _decode_jpeg(data: bytes, layout: PixelLayout) -> Decoded:
    header = _checked(read_jpeg(data), layout)
    bits = min(header.precision, layout.bits_stored)
    if header.process is Process.LS:
        return Decoded(_charls(data, layout), _full(layout.photometric), bits)
    if header.precision > _BYTE:
        return Decoded(_gdcm(data, header, layout), layout.photometric, bits)
    if layout.samples == 1:
        return Decoded(_libjpeg(data, "GRAY")[..., 0], layout.photometric, bits)
    photometric = Photometric.YBR_FULL if _is_luminance(header, layout) else Photometric.RGB
    return Decoded(_libjpeg(_declare(data, header, transform=False), "RGB"), photometric, bits)


def _decode_jpeg_2000(data: bytes, layout: PixelLayout) -> Decoded:
    header = _checked(read_jpeg_2000(data), layout)
    pixels = openjpeg.decode(data[header.start :], 0)
    transformed = layout.photometric in (Photometric.YBR_RCT, Photometric.YBR_ICT)
    photometric = Photometric.RGB if transformed else _full(layout.photometric)
    return Decoded(pixels, photometric, min(header.precision, layout.bits_stored))


_JPEG = (*_BASELINE, uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_DECODERS: dict[str, Callable[[bytes, PixelLayout], Decoded]] = {
    **dict.fromkeys(_JPEG, _decode_jpeg),
    **dict.fromkeys(_WAVELET, _decode_jpeg_2000),
    uid.RLELossless: _decode_rle,
}


def _checked(header: Codestream, layout: PixelLayout) -> Codestream:
    size = (header.rows, header.columns, len(header.components))
    if size != (layout.rows, layout.columns, layout.samples) or header.precision > layout.bits_allocated:
        refuse(Fault.FRAMES_INCONSISTENT, "Expected a frame of the size and depth that the dataset states, got another")
    return header


def _full(photometric: Photometric) -> Photometric:
    return Photometric.YBR_FULL if photometric is Photometric.YBR_FULL_422 else photometric


def _shaped(samples: NDArray[Any], layout: PixelLayout, *, planar: bool) -> NDArray[Any]:
    if layout.samples == 1:
        return samples.reshape(layout.rows, layout.columns)
    if not planar:
        return samples.reshape(layout.rows, layout.columns, layout.samples)
    return np.asarray(cv2.merge(list(samples.reshape(layout.samples, layout.rows, layout.columns))))


def _expand_422(samples: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    pairs = samples.reshape(layout.rows, layout.columns // 2, 4)  # Y1 Y2 CB CR
    pixels = np.empty((layout.rows, layout.columns // 2, 2, 3), samples.dtype)
    pixels[..., 0] = pairs[..., :2]
    pixels[..., 1:] = pairs[..., np.newaxis, 2:]
    return pixels.reshape(layout.rows, layout.columns, 3)


def _is_luminance(header: Codestream, layout: PixelLayout) -> bool:
    """Whether the first component is luminance: the codestream decides where it says so, else the dataset."""
    if header.components in _RGB_IDS:
        return False
    return header.jfif or header.adobe == 1 or layout.photometric.is_luminance


def _declare(data: bytes, header: Codestream, *, transform: bool) -> bytes:
    """Return the frame with one statement about its colour, that libjpeg follows: YCbCr, or samples to be left alone."""
    frame = bytearray(data)
    for offset in header.segments:
        frame[offset + 1] = _UNUSED_SEGMENT
    frame[2:2] = struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, transform)
    return bytes(frame)


def _libjpeg(data: bytes, space: str) -> NDArray[np.uint8]:
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, space))
    except ValueError as error:
        # Some scanners leave harmless bytes before a marker; everything else that libjpeg warns of is damage.
        if "extraneous bytes" not in str(error):
            raise
        return np.asarray(simplejpeg.decode_jpeg(data, space, strict=False))


def _charls(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    # CharLS looks for seconds for the end of a stream that breaks off.
    if not data.rstrip(b"\0").endswith(_END_OF_IMAGE):
        refuse(Fault.UNDECODABLE, "Expected a JPEG-LS frame up to its end marker, got one that breaks off")
    decoded, info = jpeg_ls.decode_buffer(data)
    samples = np.frombuffer(decoded, np.uint8 if info["bits_per_sample"] <= _BYTE else "<u2")
    return _shaped(samples, layout, planar=info["interleave_mode"] == 0)


def _gdcm(data: bytes, header: Codestream, layout: PixelLayout) -> NDArray[np.uint16]:
    if layout.samples != 1:
        refuse(Fault.UNSUPPORTED_PIXEL_FORMAT, "Expected JPEG colour frames of 8 bits, got deeper ones")
    if header.process is Process.DCT and header.precision != _DEEP_DCT_BITS:
        refuse(Fault.UNDECODABLE, "Expected 8 or 12 bits of a lossy JPEG process (ISO/IEC 10918-1 B.2.2), got others")
    syntax = uid.JPEGExtended12Bit if header.process is Process.DCT else uid.JPEGLossless
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, header.precision, header.precision - 1, 0))
    # The binding returns char* as str.
    buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(buffer, "<u2").reshape(layout.rows, layout.columns)
