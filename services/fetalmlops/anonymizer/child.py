"""The work of the anonymizer's children: one instance from file to file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.contracts.sources import PixelTrust
from fetalmlops.domain.deid import PROFILES, Deidentified, Deidentifier
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.deid.pixels.release import Release
from fetalmlops.domain.deid.pixels.text import TextCheck
from fetalmlops.domain.deid.pixels.trust import TextVerdict
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.dicom.decoding import configure

__all__ = ["CleanFile", "deidentify_file", "prepare_text"]

_LARGE_PICTURE = (1080, 1440)


@dataclass(frozen=True)
class CleanFile:
    """What came of an instance, and the digest of the file that was written."""

    result: Deidentified
    sha256: str


def prepare_text() -> None:
    """Make a child ready for the work with text detection.

    Models are loaded, and what they need for a large picture full of text is allocated, before the limit counts: a child that
    takes it later would be replaced after every call.
    """
    configure()
    picture = np.zeros(_LARGE_PICTURE, np.uint8)
    for row in range(40, picture.shape[0], 60):
        cv2.putText(picture, "BPD 4.71 cm" * (1 + row % 4), (20, row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255)
    _text_check().detector.find(np.stack([picture] * 3, axis=-1))


def deidentify_file(
    source: str,
    target: str,
    key: tuple[str, bytes],
    profile: str,
    trust: str,
    devices: bytes = b"",
    verdict: str = "",
    release: bytes = b"",
) -> CleanFile:
    """De-identify a Part 10 file into another one; neither is ever held whole.

    Parameters
    ----------
    source, target
        Paths of the instance and of the clean file, which must be new.
    key
        Project and secret of the pseudonym key.
    profile
        Name of the profile.
    trust
        What is known of the source's pixels, a word of `PixelTrust`.
    devices
        `DeviceProfiles.encoded`.
    verdict
        Whether text is looked for, a word of `TextVerdict`; empty where text detection is off.
    release
        The record of a person's release; empty for none.

    Raises
    ------
    PermanentError
        As `Deidentifier.deidentify`.
    TransientError
        If a file cannot be read or written (dependency ``objects``).
    """
    try:
        with Path(source).open("rb") as reader, Path(target).open("x+b") as writer:
            text = TextVerdict(verdict) if verdict else None
            result = _deidentifier(*key, profile, devices, checks=bool(text and text.checks)).deidentify(
                reader,
                writer,
                source_clean=trust == PixelTrust.CLEAN,
                verdict=text,
                release=Release.parse(release) if release else None,
            )
            writer.seek(0)
            return CleanFile(result, hashlib.file_digest(writer, "sha256").hexdigest())
    except OSError as error:
        msg = f"Expected to read an instance and to write its clean copy, got {type(error).__name__}; check the disk"
        raise TransientError(msg, dependency="objects", everyone=True) from None


@lru_cache(maxsize=2)
def _deidentifier(project: str, secret: bytes, profile: str, devices: bytes, *, checks: bool) -> Deidentifier:
    return Deidentifier(
        PseudonymKey(project, secret),
        PROFILES[profile],
        DeviceProfiles.decode(devices),
        _text_check() if checks else None,
    )


@lru_cache(maxsize=1)
def _text_check() -> TextCheck:
    from fetalmlops.platform.deid.text import RapidText  # takes a second to import: only where it is used

    return TextCheck(RapidText())
