"""The de-identifier as a whole: what the output says of itself, and that it is the same everywhere."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from typing import TYPE_CHECKING

import pydicom
import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import STREAM, Deidentifier
from fetalmlops.domain.deid.rules.attributes import DOCUMENT, IMAGE, REGION
from fetalmlops.domain.deid.rules.checks import Words
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_IN_ANOTHER_PROCESS = """
import hashlib, sys
from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier
output, _ = Deidentifier(PseudonymKey("tests", bytes(range(32)))).deidentify_bytes(open(sys.argv[1], "rb").read())
print(hashlib.sha256(output).hexdigest())
"""


def test_what_a_clean_instance_says_of_itself(files: ModuleType, deidentifier: Deidentifier, key: PseudonymKey) -> None:
    output, result = deidentifier.deidentify_bytes(files.make_sample().part10())
    clean = pydicom.dcmread(io.BytesIO(output))
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in clean.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert clean.BurnedInAnnotation == "NO"
    assert list(clean.ImageType) == ["DERIVED", "PRIMARY", "OBSTETRICAL", "0001"]
    assert clean.SOPInstanceUID == key.uid("1.2.826.0.1.3680043.10.999.4") == result.sop_instance_uid
    assert clean.StudyInstanceUID == key.uid("1.2.826.0.1.3680043.10.999.2")
    assert clean.SeriesInstanceUID == key.uid("1.2.826.0.1.3680043.10.999.3")
    assert clean.PatientID == key.patient("CANARY-ID-1", "")
    assert not clean.PatientName
    assert clean.file_meta.MediaStorageSOPInstanceUID == clean.SOPInstanceUID
    assert clean.file_meta.TransferSyntaxUID == result.transfer_syntax_uid == files.EXPLICIT


def test_the_report_counts_every_attribute_once(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample()
    sample.attributes |= {0x0010_4000: ("LT", b"CANARY"), 0x0009_0010: ("LO", b"CANARY")}
    report = deidentifier.deidentify_bytes(sample.part10())[1].report
    inner = len(sample.attributes[0x0018_6011][1][0])
    assert sum(report.actions.values()) == len(sample.attributes) + inner
    assert report.actions["removed"] == 2
    assert (report.edition, report.profile, report.rules_digest) == ("2026c", "stream", STREAM.digest)
    assert b"CANARY" not in repr(report).encode()


def test_frame_times_are_kept_and_pointed_to(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample(sop_class=files.US_MULTIFRAME, frames=3)
    clean = pydicom.dcmread(io.BytesIO(deidentifier.deidentify_bytes(sample.part10())[0]))
    assert (clean.FrameTime, clean.FrameIncrementPointer, clean.NumberOfFrames) == (33.3, 0x0018_1063, 3)
    del sample.attributes[0x0018_1063]
    sample.attributes[0x0018_1065] = ("DS", b"0\\33\\33")
    clean = pydicom.dcmread(io.BytesIO(deidentifier.deidentify_bytes(sample.part10())[0]))
    assert clean.FrameIncrementPointer == 0x0018_1065
    sample.attributes[0x0018_1065] = ("DS", b"0\\33")
    clean = pydicom.dcmread(io.BytesIO(deidentifier.deidentify_bytes(sample.part10())[0]))
    assert "FrameIncrementPointer" not in clean
    assert "FrameTimeVector" not in clean


def test_the_same_bytes_in_any_process(files: ModuleType, deidentifier: Deidentifier, tmp_path: Path) -> None:
    part10 = files.make_sample(photometric="RGB", samples=3, frames=2).part10()
    place = tmp_path / "instance.dcm"
    place.write_bytes(part10)
    here, _ = deidentifier.deidentify_bytes(part10)
    again, _ = deidentifier.deidentify_bytes(part10)
    there = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(place)], capture_output=True, text=True, check=True
    )
    assert hashlib.sha256(here).hexdigest() == hashlib.sha256(again).hexdigest() == there.stdout.strip()


def test_another_key_gives_other_identifiers(files: ModuleType, deidentifier: Deidentifier) -> None:
    part10 = files.make_sample().part10()
    _, ours = deidentifier.deidentify_bytes(part10)
    _, others = Deidentifier(PseudonymKey("tests", bytes(32))).deidentify_bytes(part10)
    assert ours.sop_instance_uid != others.sop_instance_uid
    assert ours.identity.pseudonyms.patient != others.identity.pseudonyms.patient


def test_deidentifying_twice_changes_no_pixel(files: ModuleType, deidentifier: Deidentifier) -> None:
    once, first = deidentifier.deidentify_bytes(files.make_sample().part10())
    twice, second = deidentifier.deidentify_bytes(once)
    assert (
        pydicom.dcmread(io.BytesIO(once)).pixel_array.tobytes()
        == pydicom.dcmread(io.BytesIO(twice)).pixel_array.tobytes()
    )
    assert first.report.rectangles == second.report.rectangles


@pytest.mark.parametrize("sop_class", [b"1.2.840.10008.5.1.4.1.1.6.2", b"1.2.840.10008.5.1.4.1.1.104.1", b"1.2.3"])
@pytest.mark.parametrize("clean", [False, True])
def test_other_classes_are_refused(
    files: ModuleType, deidentifier: Deidentifier, sop_class: bytes, clean: bool
) -> None:
    sample = files.make_sample()
    sample.attributes[0x0008_0016] = ("UI", sop_class)
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(sample.part10(), source_clean=clean)
    assert error.value.reason == "unsupported-sop-class"
    assert ("Enhanced US Volume" in str(error.value)) is sop_class.endswith(b".6.2")


def test_unknown_transfer_syntaxes_are_refused(files: ModuleType, deidentifier: Deidentifier) -> None:
    sample = files.make_sample("1.2.840.10008.1.2.4.100")
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(sample.part10())
    assert error.value.reason == "unsupported-transfer-syntax"


def test_the_rules_agree_with_the_dictionary_and_keep_no_date_name_or_free_text() -> None:
    for rule in (*IMAGE, *DOCUMENT, *REGION):
        entry = pydicom.datadict.get_entry(rule.tag)
        assert rule.keyword == entry[4]
        assert rule.vr in entry[0].split(" or ")
        assert rule.vr in {"CS", "DS", "FD", "IS", "SL", "UL", "US"} or isinstance(rule.check, Words)


def test_the_table_of_the_standard_removes_nothing_that_the_rules_keep() -> None:
    from pathlib import Path

    table = Path(__file__).parents[5] / "shared" / "data" / "ps3_15" / "table_e1_1_2024b.tsv"
    if not table.exists():
        pytest.skip("the table of PS3.15 is not beside the repository")
    rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()]
    listed = {cell for row in rows for cell in row if cell.startswith("(") and "," in cell}
    assert len(listed) > 500
    kept = {f"({rule.tag >> 16:04X},{rule.tag & 0xFFFF:04X})" for rule in (*IMAGE, *DOCUMENT, *REGION)}
    assert not kept & {cell.upper() for cell in listed}
