"""The work of the children of ``fetalmlops deid run``: one file to one clean file, or the reason why not."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import msgspec

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.rules.codes import RandomCodes
from fetalmlops.domain.deid.rules.profile import CodePolicy, Profile, read_profile
from fetalmlops.platform.deid.codebook import Codebook

__all__ = ["CleanFile", "deidentify"]


class CleanFile(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a file: where it belongs below the target, and the counts and actions of its report."""

    place: str
    pixel_action: str
    actions: dict[str, int]


def deidentify(source: bytes, draft: str, profile: bytes, key: tuple[str, str], book: str, clean: bool) -> CleanFile:
    """De-identify a file into a draft, which is durable when this returns.

    Parameters
    ----------
    source, draft
        Paths of the file, in the file system's encoding because names need not be text, and of the draft, which must be new.
    profile
        The profile's TOML.
    key
        Project and pseudonym key in hexadecimal digits, for profiles with keyed codes.
    book
        Path of the book of codes, for profiles with random ones.
    clean
        Whether the source is declared to burn nothing in.

    Raises
    ------
    PermanentError
        As `Deidentifier.deidentify`.
    """
    with Path(os.fsdecode(source)).open("rb") as reader, Path(draft).open("xb") as writer:
        result = _deidentifier(profile, *key, book).deidentify(reader, writer, source_clean=clean)
        writer.flush()
        os.fsync(writer.fileno())
    names = result.identity.pseudonyms
    place = f"{names.patient}/{names.study}/{names.series}/{result.sop_instance_uid}.dcm"
    return CleanFile(place=place, pixel_action=result.report.pixel_action, actions=result.report.actions)


@lru_cache(maxsize=2)
def _deidentifier(profile: bytes, project: str, secret: str, book: str) -> Deidentifier:
    read = read_profile(profile)
    return Deidentifier(_codes(read, project, secret, book), read)


def _codes(profile: Profile, project: str, secret: str, book: str) -> PseudonymKey | RandomCodes:
    if profile.codes is CodePolicy.RANDOM:
        return RandomCodes(Codebook(Path(book)).code)
    return PseudonymKey(project, bytes.fromhex(secret))
