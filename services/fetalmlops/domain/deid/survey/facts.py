"""The facts of one file that a survey counts: what made it and how it is encoded, and nothing about whom it shows."""

from __future__ import annotations

import hashlib
import re
from typing import IO, TYPE_CHECKING

from msgspec import Struct
from pydicom.uid import UID

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.deid.files import header as clean
from fetalmlops.domain.deid.files.reader import DEFLATED, Value, read_header
from fetalmlops.domain.deid.identity import NAMING_TAGS, naming_tokens
from fetalmlops.domain.deid.pixels.devices import DEVICE_TAGS
from fetalmlops.domain.deid.rules.attributes import IMAGE, REGION, REGIONS_TAG
from fetalmlops.domain.deid.rules.checks import Context, Phrase, check_value
from fetalmlops.domain.deid.survey.regions import RegionState, judge_regions
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.faults import guarded

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Header, Item
    from fetalmlops.domain.deid.rules.profile import RegionPolicy

__all__ = ["NOT_STATED", "WITHHELD", "Facts", "Scanner", "is_part10", "read_facts"]

NOT_STATED = ""
"""What stands for an attribute of the device that its header does not have."""

WITHHELD = "withheld"
"""What stands for one that is not plain text, or names the patient, or those around them."""

_PREFIX = (128, b"DICM")
_SOP_CLASS, _PATIENT_ID, _STUDY_UID = 0x0008_0016, 0x0010_0020, 0x0020_000D
_PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS = 0x0028_0004, 0x0028_0008, 0x0028_0010, 0x0028_0011
_DATES = (0x0008_0020, 0x0008_0021, 0x0008_0022, 0x0008_0023, 0x0010_0030)
# Stations and wards are often called what the scanner is called, which must not hide the scanner.
_TOOLS = frozenset({0x0008_0080, 0x0008_0081, 0x0008_1010, 0x0008_1040, 0x0018_1000})
_WANTED = {
    **dict.fromkeys((*(NAMING_TAGS - _TOOLS), *DEVICE_TAGS, *_DATES, _SOP_CLASS, _STUDY_UID)),
    **dict.fromkeys(rule.tag for rule in IMAGE),
    REGIONS_TAG: dict.fromkeys(rule.tag for rule in REGION),
}
_SHORT_NUMBER = re.compile(r"\d{1,3}")
_SIGNS = re.compile(r"[^A-Za-z0-9 ._+/()-]")
_PRINTABLE = re.compile(r"[ -~]+")


class Scanner(Struct, frozen=True, kw_only=True):
    """What decides a screen, as far as it may be told.

    Parameters
    ----------
    manufacturer, model, software
        As the header has them, or `NOT_STATED`, or `WITHHELD`.
    rows, columns
        Size in pixels; 0 where there is no image.
    photometric
        Photometric Interpretation, empty where there is no image or a nonstandard one.
    """

    manufacturer: str = NOT_STATED
    model: str = NOT_STATED
    software: str = NOT_STATED
    rows: int = 0
    columns: int = 0
    photometric: str = ""

    @property
    def is_stated(self) -> bool:
        """Whether it says what it is, so that a device profile can name it."""
        return not {NOT_STATED, WITHHELD}.intersection((self.manufacturer, self.model, self.software))


class Facts(Struct, frozen=True, kw_only=True):
    """What a survey counts of one DICOM file.

    Parameters
    ----------
    scanner
        What made it.
    frames
        Number of frames.
    sop_class, transfer_syntax
        Their names in the standard, empty where it has none.
    regions
        What its ultrasound regions are worth.
    patient
        A code that tells one patient from another within one survey, for choosing samples; not for any report.
    """

    scanner: Scanner
    frames: int = 0
    sop_class: str = ""
    transfer_syntax: str = ""
    regions: RegionState = RegionState.NONE
    patient: bytes = b""


def is_part10(file: IO[bytes]) -> bool:
    """Return whether a file has the prefix of Part 10."""
    offset, prefix = _PREFIX
    file.seek(offset)
    return file.read(len(prefix)) == prefix


def read_facts(file: IO[bytes], policy: RegionPolicy, salt: bytes) -> Facts:
    """Read the facts of a DICOM file.

    Parameters
    ----------
    file
        Seekable binary file in Part 10 format.
    policy
        What regions count as proof.
    salt
        Up to 64 random bytes, thrown away after the survey: what patients' codes are made with.

    Raises
    ------
    PermanentError
        If its header cannot be read.
    """
    with guarded("Expected a DICOM file, got something else"):
        header = read_header(file, _WANTED)
        return _facts(header, policy, salt, deflated=header.file is not file)


def _facts(header: Header, policy: RegionPolicy, salt: bytes, *, deflated: bool) -> Facts:
    dataset = header.dataset
    kept = clean.keep(dataset, IMAGE, Context())
    number = {tag: int(kept[tag].numbers[0]) for tag in (_ROWS, _COLUMNS, _FRAMES) if tag in kept}
    rows, columns = number.get(_ROWS, 0), number.get(_COLUMNS, 0)
    words = _device_words(dataset)
    photometric = kept[_PHOTOMETRIC].words[0] if _PHOTOMETRIC in kept else ""
    syntax = DEFLATED if deflated else header.transfer_syntax_uid
    uid, patient = _text(dataset, _SOP_CLASS), _text(dataset, _PATIENT_ID) or _text(dataset, _STUDY_UID)
    return Facts(
        scanner=Scanner(
            manufacturer=words[0],
            model=words[1],
            software=words[2],
            rows=rows,
            columns=columns,
            photometric=photometric,
        ),
        frames=number.get(_FRAMES, 1) if header.pixels else 0,
        sop_class=STORAGE_CLASSES.get(uid, "") or _registered(uid),
        transfer_syntax=_registered(syntax),
        regions=_regions(dataset, rows, columns, policy) if header.pixels else RegionState.NONE,
        patient=hashlib.blake2b(patient.encode(), key=salt, digest_size=8).digest(),
    )


def _regions(dataset: Item, rows: int, columns: int, policy: RegionPolicy) -> RegionState:
    if not (rows and columns):
        return RegionState.NONE
    try:
        return judge_regions(dataset.items.get(REGIONS_TAG, []), rows, columns, policy)
    except PermanentError:
        return RegionState.UNREADABLE


def _device_words(dataset: Item) -> list[str]:
    tokens = {token for token in naming_tokens(dataset) if not _SHORT_NUMBER.fullmatch(token)}
    tokens |= {date for tag in _DATES if len(date := _text(dataset, tag)) > len("1990")}
    context = Context(tokens=frozenset(tokens))
    return [_device_word(dataset.values.get(tag), context) for tag in DEVICE_TAGS]


def _device_word(value: Value | None, context: Context) -> str:
    """Return what a device is called, unless it is none of printable characters or names a person."""
    if value is None or not value.data.strip(b" \0"):
        return NOT_STATED
    if value.vr not in ("", "UN", "LO") or not value.data.isascii():
        return WITHHELD
    told = "\\".join(part.strip(" \0") for part in value.data.decode("ascii").split("\\"))
    as_phrase = Value("LO", _signless(told), little=True)
    if not _PRINTABLE.fullmatch(told) or check_value("LO", Phrase(), as_phrase, context) is None:
        return WITHHELD
    return told


def _signless(text: str) -> bytes:
    """Return text with spaces in the place of signs that names of companies have and a `Phrase` has not."""
    return "\\".join(_SIGNS.sub(" ", part) for part in text.split("\\")).encode("ascii")


def _registered(uid: str) -> str:
    """Return the name that the standard gives to a UID, or nothing: one of nobody else's may name somebody."""
    name = str(UID(uid).name) if uid else ""
    return "" if name == uid else name


def _text(dataset: Item, tag: int) -> str:
    value = dataset.values.get(tag)
    return value.data.decode("ascii", "replace").strip(" \0") if value else ""
