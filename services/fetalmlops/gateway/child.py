"""The work of the gateway's children: one file to normalised frames, and to nothing of whom it shows."""

from __future__ import annotations

import io
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from fetalmlops.domain.contracts.events import Quality
from fetalmlops.domain.contracts.identifiers import KEY_BYTES, PseudonymKey
from fetalmlops.domain.contracts.planes import FrameMode, SectorShape
from fetalmlops.domain.contracts.sources import PixelTrust
from fetalmlops.domain.deid import PROFILES, Deidentifier
from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines.named import pipeline_of
from fetalmlops.domain.imaging.pipelines.screens import open_screen

if TYPE_CHECKING:
    from fetalmlops.domain.imaging.pipelines.normalize import NormalizedFrames, Pipeline

__all__ = ["DICOM", "UNPROVEN", "Frames", "read_file"]

DICOM: Final = "application/dicom"
"""Media type of a Part 10 file."""

UNPROVEN: Final = "unproven"
"""Pixel action of a file whose pixels nothing proves to be free of identifiers."""

_NO_PIXELS: Final = "none"


class Frames(Struct, frozen=True, kw_only=True):
    """Normalised frames, in memory.

    Parameters
    ----------
    pixels
        Grey levels, 8 bit: frames, rows, columns in C order.
    frame_numbers
        DICOM numbers (from 1) of the frames.
    total_frames
        Number of frames of the file.
    rows, columns
        Size of a frame.
    quality, mode, sector
        What the pipeline measured and found.
    pixel_action
        By what right the pixels count as free of identifiers, a word of the report of de-identification, or `UNPROVEN`.
    profile
        Profile that de-identified the header; empty for a picture, of which nothing but its pixels is read.
    """

    pixels: bytes
    frame_numbers: list[int]
    total_frames: int
    rows: int
    columns: int
    quality: Quality
    mode: FrameMode
    sector: SectorShape
    pixel_action: str
    profile: str


def read_file(
    data: bytes, media_type: str, pipeline: tuple[str, str], profile: str, trust: str, devices: bytes
) -> Frames:
    """De-identify, decode and normalise a file.

    A DICOM file is rebuilt by the rules of the stream before anything else reads it. Where nothing proves its pixels, it is
    read for them alone: they are classified and forgotten, and what may quote them is told.

    Parameters
    ----------
    data
        Its bytes.
    media_type
        `DICOM`, ``image/png`` or ``image/jpeg``.
    pipeline
        Name and digest of the normalisation.
    profile
        Name of the profile of de-identification.
    trust
        What is known of the pixels, a word of `PixelTrust`.
    devices
        `DeviceProfiles.encoded`.

    Raises
    ------
    PermanentError
        If it cannot be de-identified or decoded.
    """
    normalise = pipeline_of(*pipeline)
    if media_type == DICOM:
        return _read_dicom(data, normalise, profile, trust, devices)
    action = "source_clean" if trust == PixelTrust.CLEAN else UNPROVEN
    normalized = normalise.run(open_screen(data))
    return _frames(normalized, action, "")


def _read_dicom(data: bytes, pipeline: Pipeline, profile: str, trust: str, devices: bytes) -> Frames:
    try:
        clean, result = _deidentifier(profile, devices).deidentify_bytes(data, source_clean=trust == PixelTrust.CLEAN)
        action = result.report.pixel_action
    except PermanentError as error:
        if error.reason != Refusal.PIXELS_UNPROVEN:
            raise
        clean, action = data, UNPROVEN
    if action == _NO_PIXELS:
        msg = "Expected an image, got a document without pixels; send the images of the study"
        raise PermanentError(msg, reason="no-pixel-data")
    return _frames(pipeline.run(open_image(io.BytesIO(clean))), action, profile)


@lru_cache(maxsize=2)
def _deidentifier(profile: str, devices: bytes) -> Deidentifier:
    # Nothing of what is made by this key leaves the process: the key of the project is not needed, and not known here.
    key = PseudonymKey("gateway", secrets.token_bytes(KEY_BYTES))
    return Deidentifier(key, PROFILES[profile], DeviceProfiles.decode(devices))


def _frames(normalized: NormalizedFrames, pixel_action: str, profile: str) -> Frames:
    _, rows, columns = normalized.frames.shape
    return Frames(
        pixels=normalized.frames.tobytes(),
        frame_numbers=list(normalized.frame_numbers),
        total_frames=normalized.total_frames,
        rows=rows,
        columns=columns,
        quality=normalized.quality,
        mode=normalized.mode,
        sector=normalized.sector.shape if normalized.sector else SectorShape.UNKNOWN,
        pixel_action=pixel_action,
        profile=profile,
    )
