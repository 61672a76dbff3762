"""The work of the children of ``fetalmlops deid survey``: the facts of one file, and looks at the pixels of a few."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.deid.pixels.text import TextCheck
from fetalmlops.domain.deid.pixels.trust import TextVerdict
from fetalmlops.domain.deid.rules.codes import RandomCodes
from fetalmlops.domain.deid.rules.profile import CodePolicy, Profile, read_profile
from fetalmlops.domain.deid.survey.facts import Facts, is_part10, read_facts
from fetalmlops.domain.deid.survey.looks import Preview, ProposedProfile, look_at_proven, look_at_unproven
from fetalmlops.domain.deid.survey.tally import CLEAN
from fetalmlops.domain.errors import PermanentError
from fetalmlops.platform.dicom.decoding import configure

if TYPE_CHECKING:
    from typing import BinaryIO

    from fetalmlops.domain.deid.rules.codes import Codes

__all__ = ["Looks", "Rules", "Seen", "look", "prepare_text", "see"]

_LARGE_PICTURE = (1080, 1440)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the system would go by.

    Parameters
    ----------
    profile
        The profile's TOML.
    devices
        Profiles of devices as JSON.
    text
        Whether text is looked for in what would be kept.
    salt
        Random bytes of this survey: codes are made with them that nothing outlives.
    """

    profile: bytes
    devices: bytes
    text: bool
    salt: bytes


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is, and what would become of it.

    Parameters
    ----------
    opened, dicom
        Whether it could be opened, and is in Part 10 format.
    facts
        Its facts, None where its header cannot be read.
    outcome
        ``clean``, or the reason for which it would be refused; empty where only the header was read.
    proof
        What proves its pixels; empty where it is refused.
    """

    opened: bool = True
    dicom: bool = True
    facts: Facts | None = None
    outcome: str = ""
    proof: str = ""


class Looks(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a scanner's sample: a masked picture, a proposed profile, or why there is none."""

    preview: Preview | None = None
    proposal: ProposedProfile | None = None
    no_proposal: str = ""


def prepare_text() -> None:
    """Make a child ready for text detection: models are loaded, and used once on a large picture, before the limit counts."""
    configure()
    _text_check().detector.find(np.zeros(_LARGE_PICTURE, np.uint8))


def see(place: bytes, packed: bytes, header_only: bool) -> Seen:
    """Say what a file is, and what would become of it; nothing is written.

    Parameters
    ----------
    place
        Path of the file in the file system's encoding: names need not be text.
    packed
        `Rules` as MessagePack.
    header_only
        Whether to leave its pixels alone: they have killed a child before.
    """
    rules = _rules(packed)
    try:
        with _path(place).open("rb") as file:
            return _seen(file, rules, header_only=header_only)
    except OSError:
        return Seen(opened=False, dicom=False)


def look(proven: list[bytes], unproven: list[bytes], name: str, packed: bytes) -> Looks:
    """Look at the pixels of a scanner's sample.

    Parameters
    ----------
    proven, unproven
        Paths of images whose pixels are proven, and of others, encoded like that of `see`.
    name
        What a profile would be called.
    packed
        `Rules` as MessagePack.
    """
    rules = _rules(packed)
    proposal, why = None, ""
    if unproven:
        try:
            with ExitStack() as stack:
                files = [stack.enter_context(_path(place).open("rb")) for place in unproven]
                proposal = look_at_unproven(files, name, rules.detector)
        except PermanentError as error:
            why = str(error)
        except OSError:
            why = "Expected files that stay while they are looked at, got one that is gone; run the survey again"
    return Looks(preview=_preview(proven, rules), proposal=proposal, no_proposal=why)


def _preview(places: list[bytes], rules: _Read) -> Preview | None:
    for place in places:
        try:
            with _path(place).open("rb") as file:
                return look_at_proven(file, rules.profile.regions, rules.devices, rules.detector)
        except (PermanentError, OSError):
            continue
    return None


def _seen(file: BinaryIO, rules: _Read, *, header_only: bool) -> Seen:
    if not is_part10(file):
        return Seen(dicom=False)
    try:
        facts = read_facts(file, rules.profile.regions, rules.salt)
    except PermanentError as error:
        return Seen(outcome=error.reason)
    if header_only:
        return Seen(facts=facts)
    verdict = TextVerdict.UNTRUSTED_CHECKED if rules.detector else TextVerdict.TRUSTED
    try:
        with Path(os.devnull).open("wb") as nowhere:
            done = rules.deidentifier.deidentify(file, nowhere, verdict=verdict)
    except PermanentError as error:
        return Seen(facts=facts, outcome=error.reason)
    return Seen(facts=facts, outcome=CLEAN, proof=done.report.pixel_action)


class _Read:
    """`Rules`, read."""

    def __init__(self, rules: Rules) -> None:
        self.salt = rules.salt
        self.profile = read_profile(rules.profile)
        self.devices = DeviceProfiles.decode(rules.devices)
        check = _text_check() if rules.text else None
        self.detector = check.detector if check else None
        self.deidentifier = Deidentifier(_codes(self.profile, rules.salt), self.profile, self.devices, check)


def _path(place: bytes) -> Path:
    return Path(os.fsdecode(place))


@lru_cache(maxsize=1)
def _rules(packed: bytes) -> _Read:
    return _Read(msgspec.msgpack.decode(packed, type=Rules))


@lru_cache(maxsize=1)
def _text_check() -> TextCheck:
    from fetalmlops.platform.deid.text import RapidText  # takes a second to import: only where it is used

    return TextCheck(RapidText())


def _codes(profile: Profile, salt: bytes) -> Codes:
    """Return codes that nobody will see: any will do."""
    if profile.codes is CodePolicy.RANDOM:
        return RandomCodes(lambda _kind, _value: salt.hex()[:32])
    return PseudonymKey("survey", salt)
