"""Reports keep their measurements, and of all else nothing that a rule does not name."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from random import Random
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.datadict import DicomDictionary

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.contracts.sop_classes import DOCUMENT_CLASSES
from fetalmlops.domain.deid import PROFILES, Deidentifier
from fetalmlops.domain.deid.rules.codes import RandomCodes
from fetalmlops.domain.deid.rules.concepts import known_concepts
from fetalmlops.domain.deid.rules.content import DATED, LABELS
from fetalmlops.domain.deid.rules.profile import CodePolicy
from fetalmlops.domain.errors import PermanentError
from support import reports
from support.dicom_files import BIG, DEFLATED, EXPLICIT, IMPLICIT, Encoding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = PseudonymKey("demo", bytes(32))


def clean(sample: Any, profile: str = "stream") -> tuple[bytes, pydicom.Dataset, Any]:
    chosen = PROFILES[profile]
    book: dict[tuple[str, str], str] = {}
    codes = RandomCodes(lambda kind, value: book.setdefault((kind, value), f"{len(book) + 7_000_000:032x}"))
    engine = Deidentifier(KEY if chosen.codes is CodePolicy.KEYED else codes, chosen)
    output, result = engine.deidentify_bytes(sample.part10())
    return output, pydicom.dcmread(io.BytesIO(output)), result


def items(dataset: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from items(item)


def numbers(dataset: pydicom.Dataset) -> list[str]:
    return [str(item.MeasuredValueSequence[0].NumericValue) for item in items(dataset) if item.ValueType == "NUM"]


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("profile", PROFILES)
def test_numbers_stay_and_no_canary_does(profile: str, syntax: str, undefined: bool) -> None:
    sample = reports.make_report(syntax)
    sample.undefined = undefined
    output, dataset, _ = clean(sample, profile)
    assert b"CANARY" not in output
    assert reports.UIDS not in output
    assert b"81547110" not in output
    assert set(reports.NUMBERS) <= set(numbers(dataset))
    assert set(numbers(dataset)) - set(reports.NUMBERS) == ({"31"} if profile != "stream" else set())
    names = {
        item.ConceptNameCodeSequence[0].CodeMeaning for item in items(dataset) if "ConceptNameCodeSequence" in item
    }
    assert {"Biparietal Diameter", "Gestational Age", "Biometry Group", "Fetal Biometry"} <= names
    assert dataset.ConceptNameCodeSequence[0].CodeMeaning == "OB-GYN Ultrasound Procedure Report"
    assert not any(element.tag.is_private for element in dataset.iterall())


@pytest.mark.parametrize(("profile", "dates"), [("stream", 0), ("safe-harbor", 2), ("research", 3), ("full-dates", 3)])
def test_dates_follow_the_policy(profile: str, dates: int) -> None:
    output, dataset, _ = clean(reports.make_report(), profile)
    found = [item for item in items(dataset) if item.ValueType in DATED]
    assert len(found) == dates
    assert b"19610203" not in output
    values = {str(item[DATED[item.ValueType][0]].value) for item in found}
    if profile == "full-dates":
        assert values == {"20240815", "20240815101112", "101112"}
    if profile == "safe-harbor":
        assert values == {"20240101"}
    if profile == "research":
        assert not values & {"20240815", "20240815101112"}
    assert not any(
        element.value for element in dataset.iterall() if profile == "stream" and element.VR in ("DA", "TM", "DT")
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_all_text_that_stays_is_vocabulary_or_ours(profile: str) -> None:
    """No UID and no other word of the input can stand in text: all of it is known beforehand."""
    _, dataset, result = clean(reports.make_report(), profile)
    known = known_concepts()
    for item in items(dataset):
        for element in item:
            if element.VR == "SQ" and "CodeValue" in (element.value[0] if element.value else ()):
                entry = element.value[0]
                found = known.find(entry.CodeValue, entry.CodingSchemeDesignator)
                assert found is not None
                assert entry.CodeMeaning == found.meaning
                assert len(entry) == 3
            if element.keyword == "TextValue":
                assert element.value in LABELS
            if element.VR == "UI":
                assert element.value in result.identity.instance.uids
            assert element.VR not in ("PN", "LT", "ST", "LO", "UC", "UR")


def test_observers_and_subjects_go_and_what_tells_fetuses_apart_stays() -> None:
    _, dataset, _ = clean(reports.make_report())
    context = [item for item in dataset.ContentSequence if item.RelationshipType == "HAS OBS CONTEXT"]
    assert [item.ValueType for item in context] == ["CODE", "TEXT"]
    assert context[1].TextValue == "A"


def test_a_patient_above_89_has_no_age() -> None:
    for age, kept in (("89", ["89"]), ("90", []), ("31", ["31"])):
        sample = reports.make_report(items=[reports.num(reports.coded("121033", "DCM"), age, "a")])
        assert numbers(clean(sample, "research")[1]) == kept
        assert numbers(clean(sample, "stream")[1]) == []


def test_what_loses_its_meaning_goes() -> None:
    _, dataset, _ = clean(reports.make_report())
    found = list(items(dataset))
    assert all(item.get("ContentSequence") for item in found if item.ValueType == "CONTAINER")
    assert all(item.ContentSequence[0].ValueType == "IMAGE" for item in found if item.ValueType == "SCOORD")
    assert sum(item.ValueType == "SCOORD" for item in found) == 1
    assert "Findings" not in {
        item.ConceptNameCodeSequence[0].CodeMeaning for item in found if "ConceptNameCodeSequence" in item
    }
    assert not [item for item in found if item.ValueType in ("PNAME", "COMPOSITE", "WAVEFORM")]


def test_references_are_keyed_as_the_instances_are_and_the_identity_leads_back() -> None:
    _, dataset, result = clean(reports.make_report())
    original = (reports.UIDS + b"11").decode()
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [KEY.uid(original)]
    images = [item for item in items(dataset) if item.ValueType == "IMAGE"]
    assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images} == {KEY.uid(original)}
    uids = result.identity.instance.uids
    keyed = {str(element.value) for element in dataset.iterall() if element.VR == "UI"}
    keyed -= {reports.US_MULTIFRAME.decode(), reports.COMPREHENSIVE}
    assert keyed == set(uids)
    assert uids[KEY.uid(original)] == original
    assert set(uids.values()) >= {
        result.identity.instance.uid,
        result.identity.study.uid,
        result.identity.instance.series_uid,
    }
    assert original not in repr(result.identity)
    assert (reports.UIDS + b"21").decode() not in uids.values(), "an image that the evidence does not list"


def test_a_sequence_encoded_as_unknown_is_read() -> None:
    sample = reports.make_report()
    sample.attributes[0x0040_A730] = ("UN", Encoding(implicit=True).items(reports.content()))
    output, dataset, _ = clean(sample)
    assert set(numbers(dataset)) == set(reports.NUMBERS)
    assert b"CANARY" not in output


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("depth", [40, 1000])
def test_a_tree_that_is_too_deep_is_refused(syntax: str, depth: int) -> None:
    leaf = Encoding(implicit=True).dataset(reports.num(reports.coded("11820-8", "LN"), "28.4", "mm"))
    for _ in range(depth):
        leaf = Encoding(implicit=True).element(0x0040_A730, "SQ", _item(leaf))
    sample = reports.make_report(syntax)
    sample.attributes[0x0040_A730] = ("SQ" if syntax == IMPLICIT else "UN", _item(leaf))
    with pytest.raises(PermanentError, match="nested at most 32 deep") as error:
        clean(sample)
    assert error.value.reason == "undecodable"


def _item(data: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data


def test_twelve_levels_are_read() -> None:
    leaf = reports.num(reports.coded("11820-8", "LN"), "28.4", "mm")
    for _ in range(12):
        leaf = reports.container(None, leaf)
    assert numbers(clean(reports.make_report(items=[leaf]))[1]) == ["28.4"]


def test_a_tree_with_too_many_items_is_refused() -> None:
    leaf = reports.num(reports.coded("11820-8", "LN"), "28.4", "mm")
    sample = reports.make_report(items=[leaf] * 13_000)
    with pytest.raises(PermanentError, match="at most 50000 items") as error:
        clean(sample)
    assert error.value.reason == "too-large"


def test_a_text_that_is_too_long_to_be_read_goes_without_the_document() -> None:
    long = reports.text(reports.coded("121071", "DCM"), b"CANARY " * 300_000)
    number = reports.num(reports.coded("11820-8", "LN"), "28.4", "mm")
    output, dataset, _ = clean(reports.make_report(items=[long, number]))
    assert numbers(dataset) == ["28.4"]
    assert b"CANARY" not in output


@pytest.mark.parametrize("sop_class", DOCUMENT_CLASSES)
def test_each_class_of_document_is_read(sop_class: str) -> None:
    output, dataset, _ = clean(reports.make_report(sop_class=sop_class))
    assert set(numbers(dataset)) == set(reports.NUMBERS)
    assert ("CompletionFlag" in dataset) is not sop_class.endswith(".59")
    assert b"CANARY" not in output


def test_the_same_report_gives_the_same_bytes_and_cleaning_twice_keeps_the_numbers() -> None:
    once, again = clean(reports.make_report())[0], clean(reports.make_report())[0]
    assert once == again
    engine = Deidentifier(KEY)
    twice, _ = engine.deidentify_bytes(once)
    assert numbers(pydicom.dcmread(io.BytesIO(twice))) == numbers(pydicom.dcmread(io.BytesIO(once)))


def test_the_report_counts_what_became_of_the_tree() -> None:
    _, _, result = clean(reports.make_report())
    actions = result.report.actions
    assert actions["kept"] > 100
    assert actions["removed"] > 300


def test_content_stays_away_without_its_option() -> None:
    from dataclasses import replace

    engine = Deidentifier(KEY, replace(PROFILES["stream"], options=()))
    output, _ = engine.deidentify_bytes(reports.make_report().part10())
    dataset = pydicom.dcmread(io.BytesIO(output))
    assert "ContentSequence" not in dataset
    assert "113104" not in {item.CodeValue for item in dataset.DeidentificationMethodCodeSequence}
    codes = {item.CodeValue for item in clean(reports.make_report())[1].DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113104"}


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("profile", PROFILES)
def test_no_new_error_of_dciodvfy(profile: str, tmp_path: Path) -> None:
    assert _new_errors(tmp_path, reports.make_report().part10(), clean(reports.make_report(), profile)[0]) == set()


def _new_errors(folder: Path, before: bytes, after: bytes) -> set[str]:
    """Return the errors that cleaning made, but for the dates that the standard requires of documents."""
    found = []
    for name, data in (("before", before), ("after", after)):
        (folder / name).write_bytes(data)
        done = subprocess.run(["dciodvfy", str(folder / name)], capture_output=True, timeout=60, check=False)
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        found.append({line for line in lines if line.startswith("Error")})
    return {error for error in found[1] - found[0] if "<ContentDate>" not in error and "<ContentTime>" not in error}


@pytest.mark.parametrize("text", [b"CANARY_A", b"CANACANA", b"19610203", b"DOE^JANE", b"81547119", b"JANEDOEF"])
def test_text_as_coordinates_does_not_survive(text: bytes) -> None:
    graphic = {0x0070_0022: ("FL", text + struct.pack("<2f", 1, 2)), 0x0070_0023: ("CS", b"POLYLINE")}
    item = reports.node("SCOORD", None, graphic, reports.image(11, by="SELECTED FROM"))
    output, _, _ = clean(reports.make_report(items=[item]))
    assert text[:4] not in output
    assert text[4:] not in output


def test_coordinates_stay_to_a_part_of_a_pixel() -> None:
    points = (10.0, 20.25, 612.515625, 799.0)
    graphic = {0x0070_0022: ("FL", struct.pack("<4f", *points)), 0x0070_0023: ("CS", b"POLYLINE")}
    item = reports.node("SCOORD", None, graphic, reports.image(11, by="SELECTED FROM"))
    (found,) = clean(reports.make_report(items=[item]))[1].ContentSequence
    assert tuple(found.GraphicData) == points


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (dicom3tools) is not installed")
def test_key_objects_stay_valid(tmp_path: Path) -> None:
    sample = reports.make_report(sop_class="1.2.840.10008.5.1.4.1.1.88.59", items=[reports.image(11, by="CONTAINS")])
    sample.attributes |= {0x0008_0060: ("CS", b"KO"), 0x0040_A043: reports.coded("113000", "DCM", "Of Interest")}
    for tag in (0x0040_A372, 0x0040_A491, 0x0040_A493):
        del sample.attributes[tag]
    new = _new_errors(tmp_path, sample.part10(), clean(sample)[0])
    assert new == set()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("profile", ["stream", "full-dates"])
def test_a_damaged_report_ends_clean_or_refused(profile: str, syntax: str) -> None:
    engine, part10 = Deidentifier(KEY, PROFILES[profile]), reports.make_report(syntax).part10()
    random, messages = Random(7), []
    for _ in range(400):
        data = bytearray(part10)
        for _ in range(random.randint(1, 6)):
            data[random.randrange(132, len(data))] = random.choice(
                (0, 1, 2, 8, 0x40, 0xFE, 0xFF, random.randrange(256))
            )
        if random.random() < 0.2:
            del data[random.randrange(200, len(data)) :]
        try:
            output, _ = engine.deidentify_bytes(bytes(data))
        except PermanentError as error:
            messages.append(str(error))
            continue
        assert b"CANARY" not in output
        assert reports.UIDS not in output
    assert 0 < len(messages) < 400
    assert "CANARY" not in " ".join(messages)


_CANARIES = {
    "DA": "1923{:04d}",
    "DT": "1923{:04d}",
    "TM": "23{:04d}",
    "DS": "-7{:09d}",
    "IS": "-7{:09d}",
    "AS": "{:03d}Y",
}
_TEXTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")


def _everything() -> dict[int, Any]:
    """Return every text attribute of the dictionary with a canary."""
    vrs = {tag: entry[0].split(" ")[0] for tag, entry in DicomDictionary.items() if 2 < tag >> 16 < 0x7FE0}
    values = {
        tag: (
            vr,
            (_CANARIES.get(vr, "CANARY-{:05d}" if vr != "UI" else reports.UIDS.decode() + "{}")).format(
                number % 10_000
            ),
        )
        for number, (tag, vr) in enumerate(sorted(vrs.items()))
        if vr in _TEXTS
    }
    return {tag: (vr, value.encode()) for tag, (vr, value) in values.items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_attribute_of_the_dictionary_survives_at_any_place_of_a_tree(profile: str) -> None:
    planted = _everything()
    assert len(planted) > 1500

    def plant(entry: tuple[str, Any]) -> tuple[str, Any]:
        return entry[0], [planted | item for item in entry[1]]

    number = reports.num(plant(reports.coded("11820-8", "LN")), "28.4", "mm")
    measured = number[0x0040_A300][1][0]
    measured[0x0040_08EA] = plant(measured[0x0040_08EA])
    number[0x0040_A300] = plant(number[0x0040_A300])
    picture = reports.image(11, by="CONTAINS")
    picture[0x0008_1199] = plant(picture[0x0008_1199])
    sample = reports.make_report(items=[planted | reports.container(None, planted | number), planted | picture])
    sample.attributes[0x0040_A375] = plant(sample.attributes[0x0040_A375])
    output, dataset, _ = clean(sample, profile)
    assert numbers(dataset) == ["28.4"]
    assert sum(item.ValueType == "IMAGE" for item in items(dataset)) == 1
    assert b"CANARY" not in output
    assert reports.UIDS not in output
    kept = {str(element.value) for item in items(dataset) for element in item.iterall() if element.VR != "SQ"}
    assert not kept & {value.decode() for _, value in planted.values()}
