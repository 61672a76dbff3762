"""Facts say what made a file, and withhold what might say whom it shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.survey.facts import NOT_STATED, WITHHELD, Facts, is_part10, read_facts
from fetalmlops.domain.deid.survey.regions import RegionState
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

MANUFACTURER, MODEL, SOFTWARE = 0x0008_0070, 0x0008_1090, 0x0018_1020
SALT = b"salt"


def facts(part10: bytes, salt: bytes = SALT) -> Facts:
    return read_facts(io.BytesIO(part10), STREAM.regions, salt)


def with_device(files: ModuleType, model: bytes, **values: tuple[str, bytes]) -> Facts:
    sample = files.make_sample()
    sample.attributes |= {MANUFACTURER: ("LO", b"ACME, Inc. & Co"), MODEL: ("LO", model), SOFTWARE: ("LO", b"1.0\\2 ")}
    sample.attributes |= {int(tag, 16): value for tag, value in values.items()}
    return facts(sample.part10())


def test_an_image_is_described(files: ModuleType) -> None:
    described = with_device(files, b"Scan-O <b>9</b> ")
    scanner = described.scanner
    assert (scanner.manufacturer, scanner.model, scanner.software) == ("ACME, Inc. & Co", "Scan-O <b>9</b>", "1.0\\2")
    assert (scanner.rows, scanner.columns, scanner.photometric) == (files.ROWS, files.COLUMNS, "MONOCHROME2")
    assert scanner.is_stated
    assert described.frames == 1
    assert described.sop_class == "Ultrasound Image Storage"
    assert described.transfer_syntax == "Explicit VR Little Endian"
    assert described.regions is RegionState.VALID


def test_frames_and_encodings_are_counted(files: ModuleType) -> None:
    cine = facts(files.make_sample(files.DEFLATED, sop_class=files.US_MULTIFRAME, frames=3).part10())
    assert cine.frames == 3
    assert cine.transfer_syntax == "Deflated Explicit VR Little Endian"


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (b"Patient 9", {}),
        (b"x-canary-x", {}),
        (b"scan 4711002", {"0x00080050": ("SH", b"4711002")}),
        (b"19900131", {"0x00100030": ("DA", b"19900131")}),
        (b"of 20240131", {}),
        (b"Meier Scan", {"0x00080090": ("PN", b"Meier^Anna")}),
        ("Größe".encode(), {}),
        (b"Scan\x1b\x07", {}),
        (b"x" * 65, {}),
    ],
    ids=["name", "within", "accession", "birth", "study date", "physician", "not ASCII", "control", "long"],
)
def test_what_names_a_person_or_is_no_plain_text_is_withheld(
    files: ModuleType, model: bytes, values: dict[str, tuple[str, bytes]]
) -> None:
    scanner = with_device(files, model, **values).scanner
    assert scanner.model == WITHHELD
    assert scanner.manufacturer == "ACME, Inc. & Co"
    assert not scanner.is_stated


def test_a_station_called_like_its_scanner_does_not_hide_it(files: ModuleType) -> None:
    assert with_device(files, b"Scan", **{"0x00081010": ("SH", b"Scan")}).scanner.model == "Scan"


def test_what_is_not_there_is_not_stated(files: ModuleType) -> None:
    scanner = facts(files.make_sample().part10()).scanner
    assert (scanner.manufacturer, scanner.model, scanner.software) == (NOT_STATED, NOT_STATED, NOT_STATED)
    assert not scanner.is_stated


def test_uids_of_nobody_known_are_not_told(files: ModuleType) -> None:
    sample = files.make_sample(sop_class="1.2.3.4711")
    assert facts(sample.part10()).sop_class == ""
    sample.transfer_syntax = "1.2.3.4712"
    assert facts(sample.part10()).transfer_syntax == ""


def test_a_patient_is_a_code_of_this_survey(files: ModuleType) -> None:
    part10 = files.make_sample().part10()
    other = files.make_sample()
    other.attributes[0x0010_0020] = ("LO", b"CANARY-ID-2")
    assert facts(part10).patient == facts(part10).patient
    assert len({facts(part10).patient, facts(other.part10()).patient, facts(part10, b"other").patient}) == 3


def test_files_that_are_none_are_told_apart(files: ModuleType) -> None:
    assert is_part10(io.BytesIO(files.make_sample().part10()))
    assert not is_part10(io.BytesIO(b""))
    with pytest.raises(PermanentError) as error:
        facts(bytes(128) + b"DICM" + b"CANARY" * 9)
    assert "CANARY" not in str(error.value)
