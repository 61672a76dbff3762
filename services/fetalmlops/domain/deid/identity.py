"""Who an instance is of: read for the vault and for the pseudonyms, and nowhere else.

An `Identity` never leaves the phi zone: it goes encrypted into the vault, from which the report to the PACS takes it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from pydicom import charset

from fetalmlops.domain.deid.faults import Refusal, refuse

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.rules.codes import Codes

__all__ = [
    "IDENTITY_TAGS",
    "NAMING_TAGS",
    "Identity",
    "InstanceIdentity",
    "PatientIdentity",
    "Pseudonyms",
    "StudyIdentity",
    "Vault",
    "is_uid",
    "naming_tokens",
    "patient_pseudonym",
    "person_tokens",
    "read_identity",
    "with_uids",
]

_CHARACTER_SET = 0x0008_0005
_SOP_CLASS_UID = 0x0008_0016
_SOP_INSTANCE_UID = 0x0008_0018
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_PATIENT = {
    "name": 0x0010_0010,
    "id": 0x0010_0020,
    "issuer": 0x0010_0021,
    "birth_date": 0x0010_0030,
    "birth_time": 0x0010_0032,
    "sex": 0x0010_0040,
}
_STUDY = {
    "accession": 0x0008_0050,
    "study_id": 0x0020_0010,
    "date": 0x0008_0020,
    "time": 0x0008_0030,
    "zone": 0x0008_0201,
}
_INSTANCE = {
    "content_date": 0x0008_0023,
    "content_time": 0x0008_0033,
    "acquired": 0x0008_002A,
    "acquisition_date": 0x0008_0022,
    "acquisition_time": 0x0008_0032,
    "series_date": 0x0008_0021,
    "series_time": 0x0008_0031,
    "creation_date": 0x0008_0012,
    "creation_time": 0x0008_0013,
    "captured_date": 0x0018_1012,
    "captured_time": 0x0018_1014,
    "step_start_date": 0x0040_0244,
    "step_start_time": 0x0040_0245,
    "step_end_date": 0x0040_0250,
    "step_end_time": 0x0040_0251,
    "frame_of_reference_uid": 0x0020_0052,
}

IDENTITY_TAGS = frozenset(
    {_CHARACTER_SET, _SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID}
    | {*_PATIENT.values(), *_STUDY.values(), *_INSTANCE.values()}
)
"""The tags that `read_identity` needs."""

NAMING_TAGS = frozenset(
    {_PATIENT["name"], _PATIENT["id"], _STUDY["accession"], _STUDY["study_id"], _CHARACTER_SET}
    | {
        0x0008_0080,
        0x0008_0081,
        0x0008_0090,
        0x0008_1010,
        0x0008_1040,
        0x0008_1048,
        0x0008_1050,
        0x0008_1060,
        0x0008_1070,
    }
    | {
        0x0010_1000,
        0x0010_1001,
        0x0010_1005,
        0x0010_1060,
        0x0018_1000,
        0x0032_1032,
        0x0032_1033,
        0x0040_0006,
        0x0010_2297,
    }
)
"""Attributes whose words name the patient or those around them: ids, institution, physicians, station, serial number."""

_PLACES = frozenset({0x0008_0080, 0x0008_0081, 0x0008_1010, 0x0008_1040})
"""Of `NAMING_TAGS` those that name a place or a machine and no person."""

_PLACEHOLDERS = frozenset(
    {
        "",
        "-",
        "--",
        "?",
        "0",
        "1",
        "ANON",
        "ANONYMOUS",
        "ANONYMIZED",
        "N/A",
        "NA",
        "NIL",
        "NO ID",
        "NOID",
        "NONE",
        "NULL",
    }
    | {"PATIENT", "PATIENTID", "PATIENT ID", "TBD", "TEMP", "TEST", "UNDEFINED", "UNKNOWN", "XXX", "XXXX"}
)
_UID_CHARACTERS = frozenset("0123456789.")
_UID_LENGTH = 64
_DATE_DIGITS = 8


class PatientIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A patient as the source names them."""

    name: str = ""
    id: str = ""
    issuer: str = ""
    birth_date: str = ""
    birth_time: str = ""
    sex: str = ""


class StudyIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A study as the source names it; `zone` is its offset from UTC. `patient` is the patient's pseudonym."""

    uid: str
    patient: str
    accession: str = ""
    study_id: str = ""
    date: str = ""
    time: str = ""
    zone: str = ""


class InstanceIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as the source names it. `study` is the study's pseudonym, `acquired` the date and time in one.

    `creation` is that of the instance, `captured` that of a secondary capture, `step` the performed procedure step.
    `uids` leads from every keyed UID of the clean file, those that it refers to included, to the original.
    """

    uid: str
    study: str
    series_uid: str
    sop_class_uid: str
    content_date: str = ""
    content_time: str = ""
    acquired: str = ""
    acquisition_date: str = ""
    acquisition_time: str = ""
    series_date: str = ""
    series_time: str = ""
    creation_date: str = ""
    creation_time: str = ""
    captured_date: str = ""
    captured_time: str = ""
    step_start_date: str = ""
    step_start_time: str = ""
    step_end_date: str = ""
    step_end_time: str = ""
    frame_of_reference_uid: str = ""
    uids: dict[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed pseudonyms of one instance and of what it belongs to."""

    patient: str
    study: str
    series: str
    instance: str


@dataclass(frozen=True, repr=False)
class Identity:
    """What the vault keeps of one instance. Its text form is empty of values."""

    pseudonyms: Pseudonyms
    patient: PatientIdentity
    study: StudyIdentity
    instance: InstanceIdentity

    def __repr__(self) -> str:
        return f"Identity(instance={self.pseudonyms.instance})"


class Vault(Protocol):
    """Where identities are kept: one entry a patient, a study and an instance, so that a duplicate adds nothing."""

    async def put(self, identity: Identity) -> None:
        """Keep an identity; durable when this returns. The last one put is kept."""

    async def patient(self, pseudonym: str) -> PatientIdentity | None:
        """Return the patient of a pseudonym, None if there is none."""

    async def study(self, pseudonym: str) -> StudyIdentity | None:
        """Return the study of a pseudonym, None if there is none."""

    async def instance(self, pseudonym: str) -> InstanceIdentity | None:
        """Return the instance of a pseudonym, None if there is none."""


def patient_pseudonym(key: Codes, patient_id: str, issuer: str, study_instance_uid: str) -> str:
    """Return a patient's pseudonym; where the id is missing or a placeholder, the study stands in.

    Examples
    --------
    >>> from fetalmlops.domain.contracts.identifiers import PseudonymKey
    >>> key = PseudonymKey("demo", bytes(32))
    >>> patient_pseudonym(key, "Unknown", "", "1.2.3") == key.study("1.2.3")
    True
    """
    folded = " ".join(patient_id.upper().split())
    if folded in _PLACEHOLDERS or not folded.strip("0"):
        return key.study(study_instance_uid)
    return key.patient(patient_id, issuer)


def is_uid(text: str) -> bool:
    """Return whether a text may be a UID (PS3.5 section 9.1): 1 to 64 digits and dots."""
    return 0 < len(text) <= _UID_LENGTH and _UID_CHARACTERS.issuperset(text)


def naming_tokens(dataset: Item) -> frozenset[str]:
    """Return the words of `NAMING_TAGS`, in capitals and without diacritics: they name the patient or those around them."""
    return _tokens(dataset, NAMING_TAGS)


def person_tokens(dataset: Item) -> frozenset[str]:
    """Return `naming_tokens` without those of institution and station, and the birth date as people write it."""
    return _tokens(dataset, NAMING_TAGS - _PLACES) | _birth_dates(_Decoder(dataset)(_PATIENT["birth_date"]))


def _birth_dates(date: str) -> frozenset[str]:
    """Return the digits of a date in six orders."""
    year, month, day = date[:4], date[4:6], date[6:8]
    orders = ((year, month, day), (day, month, year), (month, day, year))
    short = ((*order,) for order in ((year[2:], month, day), (day, month, year[2:]), (month, day, year[2:])))
    return frozenset("".join(order) for order in (*orders, *short)) if len(date) == _DATE_DIGITS else frozenset()


def _tokens(dataset: Item, tags: frozenset[int]) -> frozenset[str]:
    decode = _Decoder(dataset)
    text = " ".join(decode(tag) for tag in sorted(tags - {_CHARACTER_SET}))
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return frozenset(word for word in re.findall(r"\w+", plain.replace("_", " ").upper()) if len(word) > 1)


def read_identity(dataset: Item, key: Codes) -> Identity:
    """Read the identity of an instance.

    Raises
    ------
    PermanentError
        If a UID that names the instance, its series, its study or its class is missing or malformed (reason ``identity``).
    """
    decode = _Decoder(dataset)
    uids = {tag: _uid(decode, tag) for tag in (_SOP_INSTANCE_UID, _SERIES_INSTANCE_UID, _STUDY_INSTANCE_UID)}
    study_uid, instance_uid = uids[_STUDY_INSTANCE_UID], uids[_SOP_INSTANCE_UID]
    patient = PatientIdentity(**{name: decode(tag) for name, tag in _PATIENT.items()})
    pseudonyms = Pseudonyms(
        patient=patient_pseudonym(key, patient.id, patient.issuer, study_uid),
        study=key.study(study_uid),
        series=key.series(uids[_SERIES_INSTANCE_UID]),
        instance=key.instance(instance_uid),
    )
    told: dict[str, Any] = {name: decode(tag) for name, tag in _INSTANCE.items()}
    return Identity(
        pseudonyms=pseudonyms,
        patient=patient,
        study=StudyIdentity(
            uid=study_uid, patient=pseudonyms.patient, **{name: decode(tag) for name, tag in _STUDY.items()}
        ),
        instance=InstanceIdentity(
            uid=instance_uid,
            study=pseudonyms.study,
            series_uid=uids[_SERIES_INSTANCE_UID],
            sop_class_uid=_uid(decode, _SOP_CLASS_UID),
            **told,
        ),
    )


def with_uids(identity: Identity, uids: dict[str, str]) -> Identity:
    """Return an identity that leads from these keyed UIDs to their originals."""
    return replace(identity, instance=msgspec.structs.replace(identity.instance, uids=uids))


class _Decoder:
    """Decodes text by the dataset's Specific Character Set (PS3.3 C.12.1.1.2), never failing and never warning."""

    def __init__(self, dataset: Item) -> None:
        self._values = dataset.values
        terms = self._raw(_CHARACTER_SET).decode("ascii", "replace").split("\\")
        names = [charset.python_encoding.get(term.strip(), "") for term in terms]
        self._encodings = [name for name in names if name] or [charset.default_encoding]

    def __call__(self, tag: int) -> str:
        data = self._raw(tag)
        return (self._escaped(data) if b"\x1b" in data else data.decode(self._encodings[0], "replace")).strip(" \0")

    def _raw(self, tag: int) -> bytes:
        value = self._values.get(tag)
        return value.data if value else b""

    def _escaped(self, data: bytes) -> str:
        """Decode ISO 2022 code extensions: each escape sequence chooses how the text up to the next one is read."""
        parts = data.split(b"\x1b")
        decoded = [parts[0].decode(self._encodings[0], "replace")]
        for part in parts[1:]:
            escape = next((code for code in charset.CODES_TO_ENCODINGS if (b"\x1b" + part).startswith(code)), b"")
            encoding = charset.CODES_TO_ENCODINGS.get(escape, self._encodings[0])
            keeps_escape = encoding in charset.handled_encodings
            decoded.append(
                (b"\x1b" + part if keeps_escape else part[max(len(escape) - 1, 0) :]).decode(encoding, "replace")
            )
        return "".join(decoded)


def _uid(decode: _Decoder, tag: int) -> str:
    uid = decode(tag)
    if not is_uid(uid):
        refuse(f"Expected a UID in ({tag >> 16:04X},{tag & 0xFFFF:04X}), got none or a malformed one", Refusal.IDENTITY)
    return uid
