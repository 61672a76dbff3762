"""The work of the anonymizer's children: one instance from file to file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.contracts.sources import PixelTrust
from fetalmlops.domain.deid import PROFILES, Deidentified, Deidentifier
from fetalmlops.domain.errors import TransientError

__all__ = ["CleanFile", "deidentify_file"]


@dataclass(frozen=True)
class CleanFile:
    """What came of an instance, and the digest of the file that was written."""

    result: Deidentified
    sha256: str


def deidentify_file(source: str, target: str, key: tuple[str, bytes], profile: str, trust: str) -> CleanFile:
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

    Raises
    ------
    PermanentError
        As `Deidentifier.deidentify`.
    TransientError
        If a file cannot be read or written (dependency ``objects``).
    """
    try:
        with Path(source).open("rb") as reader, Path(target).open("x+b") as writer:
            result = _deidentifier(*key, profile).deidentify(reader, writer, source_clean=trust == PixelTrust.CLEAN)
            writer.seek(0)
            return CleanFile(result, hashlib.file_digest(writer, "sha256").hexdigest())
    except OSError as error:
        msg = f"Expected to read an instance and to write its clean copy, got {type(error).__name__}; check the disk"
        raise TransientError(msg, dependency="objects", everyone=True) from None


@lru_cache(maxsize=2)
def _deidentifier(project: str, secret: bytes, profile: str) -> Deidentifier:
    return Deidentifier(PseudonymKey(project, secret), PROFILES[profile])
