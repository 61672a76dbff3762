"""Who an instance is of: pseudonyms that agree with the listener's, and text in any character set for the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from fetalmlops.domain.deid import patient_pseudonym
from fetalmlops.domain.deid.identity import InstanceIdentity, PatientIdentity
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.deid import Deidentifier, Identity


def identity(files: ModuleType, deidentifier: Deidentifier, **changes: tuple[str, bytes]) -> Identity:
    sample = files.make_sample()
    sample.attributes |= {int(tag[1:], 16): value for tag, value in changes.items()}
    return deidentifier.deidentify_bytes(sample.part10())[1].identity


def test_everything_for_the_vault_is_read(files: ModuleType, deidentifier: Deidentifier, key: PseudonymKey) -> None:
    found = identity(
        files,
        deidentifier,
        x00100021=("LO", b"CANARY-ISSUER"),
        x00100030=("DA", b"19900101"),
        x00100040=("CS", b"F "),
        x00080050=("SH", b"CANARY-ACC"),
        x00200010=("SH", b"CANARY-STUDY"),
        x00080030=("TM", b"101112.5"),
        x00080033=("TM", b"101113"),
    )
    patient, study, instance = found.patient, found.study, found.instance
    assert (patient.name, patient.id, patient.issuer) == ("CANARY^PATIENT", "CANARY-ID-1", "CANARY-ISSUER")
    assert (patient.birth_date, patient.sex) == ("19900101", "F")
    assert (study.accession, study.study_id, study.date, study.time) == (
        "CANARY-ACC",
        "CANARY-STUDY",
        "20240131",
        "101112.5",
    )
    assert study.uid == "1.2.826.0.1.3680043.10.999.2"
    assert (instance.uid, instance.content_time) == ("1.2.826.0.1.3680043.10.999.4", "101113")
    assert found.pseudonyms.instance == key.instance(instance.uid)
    assert found.pseudonyms.patient == key.patient("CANARY-ID-1", "CANARY-ISSUER") == study.patient
    assert "CANARY" not in repr(found)


@pytest.mark.parametrize(
    "patient_id", ["", "  ", "0", "000000", "unknown", "Anonymous", "n/a", "NO ID", "no  id", "Test"]
)
def test_for_placeholders_the_study_stands_in(key: PseudonymKey, patient_id: str) -> None:
    assert patient_pseudonym(key, patient_id, "issuer", "1.2.3") == key.study("1.2.3")
    assert patient_pseudonym(key, "4711", "issuer", "1.2.3") == key.patient("4711", "issuer")


@pytest.mark.parametrize(
    ("charset", "encoded", "text"),
    [
        (b"ISO_IR 100", "Ä^É".encode("latin-1"), "Ä^É"),
        (b"ISO_IR 192", "山田^太郎".encode(), "山田^太郎"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"ISO_IR 144", "Юлия".encode("iso8859-5"), "Юлия"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (b"\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3", "Hong=洪"),
        (b"NO SUCH SET", b"Plain", "Plain"),
        (b"ISO_IR 192", b"\xff\xfe broken", "\ufffd\ufffd broken"),
    ],
)
def test_names_in_any_character_set(
    files: ModuleType, deidentifier: Deidentifier, charset: bytes, encoded: bytes, text: str
) -> None:
    found = identity(files, deidentifier, x00080005=("CS", charset), x00100010=("PN", encoded))
    assert found.patient.name == text


@pytest.mark.parametrize("uid", [b"", b"1.2.CANARY", b"1." * 40])
@pytest.mark.parametrize("tag", ["x00080016", "x00080018", "x0020000D", "x0020000E"])
def test_without_its_uids_an_instance_is_refused(
    files: ModuleType, deidentifier: Deidentifier, tag: str, uid: bytes
) -> None:
    with pytest.raises(PermanentError) as error:
        identity(files, deidentifier, **{tag: ("UI", uid)})
    assert error.value.reason == "identity"
    assert "CANARY" not in str(error.value)


def test_the_identity_leads_from_each_uid_of_the_clean_file_to_its_original(
    files: ModuleType, deidentifier: Deidentifier, key: PseudonymKey
) -> None:
    found = identity(files, deidentifier)
    originals = {found.instance.uid, found.instance.series_uid, found.study.uid}
    assert found.instance.uids == {key.uid(uid): uid for uid in originals}


DATES_AND_TIMES = {
    0x0008_0012: "creation_date",
    0x0008_0013: "creation_time",
    0x0008_0021: "series_date",
    0x0008_0022: "acquisition_date",
    0x0008_0023: "content_date",
    0x0008_0031: "series_time",
    0x0008_0032: "acquisition_time",
    0x0008_0033: "content_time",
    0x0018_1012: "captured_date",
    0x0018_1014: "captured_time",
    0x0040_0244: "step_start_date",
    0x0040_0245: "step_start_time",
    0x0040_0250: "step_end_date",
    0x0040_0251: "step_end_time",
}


def test_each_date_and_time_is_kept_for_itself(files: ModuleType, deidentifier: Deidentifier) -> None:
    values = {
        name: f"190101{number + 1:02}" if name.endswith("date") else f"1010{number:02}"
        for number, name in enumerate(DATES_AND_TIMES.values())
    }
    sample = files.make_sample()
    sample.attributes |= {
        tag: ("DA" if name.endswith("date") else "TM", values[name].encode()) for tag, name in DATES_AND_TIMES.items()
    }
    sample.attributes[0x0010_0032] = ("TM", b"235959")
    output, result = deidentifier.deidentify_bytes(sample.part10())
    found = result.identity
    assert {name: getattr(found.instance, name) for name in values} == values
    assert found.patient.birth_time == "235959"
    assert not [value for value in (*values.values(), "235959") if value.encode() in output]


def test_entries_from_before_more_dates_were_kept_are_read() -> None:
    patient = {"name": "CANARY", "id": "1", "issuer": "", "birth_date": "19900101", "sex": "F"}
    known = msgspec.msgpack.decode(msgspec.msgpack.encode(patient), type=PatientIdentity)
    assert (known.birth_date, known.birth_time) == ("19900101", "")
    old = {
        "uid": "1.2.3",
        "study": "0" * 32,
        "series_uid": "1.2.4",
        "sop_class_uid": "1.2.5",
        "series_date": "19010101",
    }
    entry = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=InstanceIdentity)
    assert (entry.series_date, entry.creation_date, entry.step_end_time) == ("19010101", "", "")


def test_an_entry_from_before_uids_were_kept_is_read() -> None:
    old = {"uid": "1.2.3", "study": "0" * 32, "series_uid": "1.2.4", "sop_class_uid": "1.2.5"}
    entry = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=InstanceIdentity)
    assert (entry.uid, entry.uids) == ("1.2.3", {})
