"""No value of the input comes out unless a rule names it: every text representation, every place, every encoding."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR

from fetalmlops.domain.deid.identity import IDENTITY_TAGS
from fetalmlops.domain.deid.rules.attributes import IMAGE, PALETTE, REGIONS_TAG

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.deid import Deidentifier

TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
UIDS_AND_CHARACTER_SET = {tag for tag in IDENTITY_TAGS if dictionary_VR(tag) == "UI"} | {0x0008_0005}
NEEDED = {rule.tag for rule in IMAGE} | UIDS_AND_CHARACTER_SET | {*PALETTE, REGIONS_TAG, 0x0008_0008}
MADE = {
    0x0008_0100,
    0x0008_0102,
    0x0008_0104,
    0x0008_2111,
    0x0010_0020,
    0x0012_0062,
    0x0012_0063,
    0x0028_0301,
    0x0028_0303,
}
NUMBERS = {"AS": "{:03d}Y", "DA": "19{:06d}", "DT": "19{:012d}", "DS": "-7{:09d}", "IS": "-7{:09d}", "TM": "{:06d}"}


def canary(vr: str, number: int) -> bytes:
    """Return a value that is valid for its representation and found nowhere else."""
    if vr == "UI":
        return f"1.2.826.0.1.3680043.10.777.{number}".encode()
    return NUMBERS.get(vr, "CANARY-{:05d}").format(number).encode()


def planted(tags: list[int], vrs: dict[int, str]) -> dict[int, tuple[str, bytes]]:
    return {tag: (vrs[tag], canary(vrs[tag], number)) for number, tag in enumerate(tags)}


def all_text() -> dict[int, tuple[str, bytes]]:
    """Return every text attribute of the dictionary that no rule needs, with a canary each."""
    vrs = {tag: entry[0].split(" ")[0] for tag, entry in DicomDictionary.items() if tag >> 16 > 2}
    tags = [tag for tag, vr in vrs.items() if vr in TEXT and tag not in NEEDED and tag >> 16 != 0xFFFE]
    return planted(tags, vrs)


def nested(inside: dict[int, Any], depth: int) -> dict[int, Any]:
    """Wrap attributes into so many sequences."""
    for _ in range(depth):
        inside = {0x0040_0275: ("SQ", [inside])}
    return inside


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_no_text_attribute_survives(
    files: ModuleType, deidentifier: Deidentifier, syntax: str, depth: int, undefined: bool
) -> None:
    sample = files.make_sample(syntax)
    canaries = all_text()
    assert len(canaries) > 1500
    sample.attributes = nested(canaries, depth) | sample.attributes
    sample.undefined = undefined
    output, result = deidentifier.deidentify_bytes(sample.part10())
    # Short numbers can stand in any bytes by chance: attributes are compared, not the file's bytes.
    filled = {element.tag for element in pydicom.dcmread(io.BytesIO(output)).iterall() if element.value}
    assert filled & set(canaries) <= MADE
    assert b"CANARY" not in output
    assert b"3680043.10.777" not in output
    assert result.report.actions["removed"] >= (len(canaries) - 20 if depth == 0 else 1)


@pytest.mark.parametrize("tag", [0x0018_0040, 0x0018_5050, 0x0008_2144, 0x0018_1063, 0x0028_0030, 0x0028_1050])
def test_text_in_numbers_that_are_kept_is_removed(files: ModuleType, deidentifier: Deidentifier, tag: int) -> None:
    sample = files.make_sample()
    for value in (b"CANARY", b"4711081512", b"1\\2\\3\\4711", b"\xff\xfe", b"1e99"):
        sample.attributes[tag] = ("DS", value)
        output, _ = deidentifier.deidentify_bytes(sample.part10())
        assert tag not in pydicom.dcmread(io.BytesIO(output))


@pytest.mark.parametrize("text", [b"JANE DOE", b"19610203", b"DOE^JANE", b"CANARY01"])
def test_text_as_binary_numbers_is_removed(files: ModuleType, deidentifier: Deidentifier, text: bytes) -> None:
    sample = files.make_sample()
    item = sample.attributes[0x0018_6011][1][0]
    item |= {0x0018_602C: ("FD", text), 0x0018_6028: ("FD", text), 0x0018_6030: ("UL", text[:4])}
    output, _ = deidentifier.deidentify_bytes(sample.part10())
    clean = pydicom.dcmread(io.BytesIO(output)).SequenceOfUltrasoundRegions[0]
    assert not {0x0018_602C, 0x0018_6028, 0x0018_6030} & set(clean.keys())


def test_words_outside_their_list_are_removed(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample()
    sample.attributes[0x0008_0008] = ("CS", b"CANARY1\\CANARY2\\CANARY3\\BEEF\\CANARY4")
    sample.attributes[0x0008_0060] = ("CS", b"CANARY5")
    sample.attributes[0x2050_0020] = ("CS", b"CANARY6")
    output, _ = deidentifier.deidentify_bytes(sample.part10())
    assert b"CANARY" not in output
    assert pydicom.dcmread(io.BytesIO(output)).ImageType[:2] == ["DERIVED", "PRIMARY"]


def test_a_sequence_encoded_as_unknown_is_read(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample()
    items = [files.region(*files.REGION) | {0x0010_0010: ("PN", b"CANARY^IN^REGION")}]
    sample.attributes[REGIONS_TAG] = ("UN", files.Encoding(implicit=True).items(items))
    output, result = deidentifier.deidentify_bytes(sample.part10())
    assert result.report.rectangles == [(8, 10, 72, 50)]
    assert b"CANARY" not in output


def test_documents_keep_no_content(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample(sop_class="1.2.840.10008.5.1.4.1.1.88.33")
    sample.pixels = b""
    sample.attributes |= {
        0x0008_0060: ("CS", b"SR"),
        0x0040_A730: ("SQ", [{0x0040_A160: ("UT", b"CANARY text"), 0x0040_A123: ("PN", b"CANARY^OBSERVER")}]),
        0x0040_A043: ("SQ", [{0x0008_0104: ("LO", b"CANARY TITLE")}]),
        0x0040_A078: ("SQ", [{0x0040_A123: ("PN", b"CANARY^AUTHOR")}]),
    }
    output, result = deidentifier.deidentify_bytes(sample.part10())
    assert b"CANARY" not in output
    assert result.report.pixel_action == "none"
    clean = pydicom.dcmread(io.BytesIO(output))
    assert (clean.Modality, clean.ValueType, clean.CompletionFlag) == ("SR", "CONTAINER", "PARTIAL")


def test_no_date_or_time_has_a_value(files: ModuleType, deidentifier: Deidentifier) -> None:
    for sop_class in (files.US_IMAGE, "1.2.840.10008.5.1.4.1.1.88.11"):
        sample = files.make_sample(sop_class=sop_class)
        sample.attributes |= {tag: entry for tag, entry in all_text().items() if entry[0] in ("DA", "DT", "TM", "AS")}
        output, _ = deidentifier.deidentify_bytes(sample.part10())
        dated = [
            element
            for element in pydicom.dcmread(io.BytesIO(output)).iterall()
            if element.VR in ("DA", "DT", "TM", "AS")
        ]
        assert dated
        assert not any(element.value for element in dated)


def test_errors_and_logs_quote_nothing(
    files: ModuleType, deidentifier: Deidentifier, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(0)
    for tag, value in {
        0x0028_0004: b"CANARY",
        0x0008_0016: b"CANARY",
        0x0020_000D: b"CANARY",
        0x0028_0008: b"CANARY",
    }.items():
        sample = files.make_sample()
        sample.attributes[tag] = ("CS", value)
        try:
            deidentifier.deidentify_bytes(sample.part10())
        except Exception as error:
            seen = repr(error) + repr(error.__cause__) + repr(error.__context__)
            assert "CANARY" not in seen
    assert not recwarn.list
    assert "CANARY" not in caplog.text
