"""Profiles: what each keeps, what none keeps, and that an explanation says what the engine does."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.valuerep import VR

from fetalmlops.domain.deid import PROFILES, Deidentifier, Profile
from fetalmlops.domain.deid.rules.dates import shift_days
from fetalmlops.domain.deid.rules.explain import Fate, explain
from fetalmlops.domain.deid.rules.profile import read_profile
from fetalmlops.domain.errors import SettingsError
from support.deid import codes_for
from support.sweep import DEPTHS, ROWS, RUNS, Swept, find_leaks, plant, sweep

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

CANARY = "QXCANARY"


@pytest.mark.parametrize(("depth", "encoded"), RUNS)
def test_no_row_of_the_table_leaks(key: PseudonymKey, profile: Profile, depth: int, encoded: str) -> None:
    """Each row that a file can hold gets a value of its own; none comes out but by an option of the profile."""
    assert len(ROWS) == len({row.tag for row in ROWS}) == 654, "all 656 but the two of the command set"
    assert sweep(profile, key, depth, encoded) == Swept(654, ())


@pytest.mark.parametrize("vr", sorted(set(VR) - {"SQ"}))
def test_no_row_leaks_that_says_it_is_something_else(key: PseudonymKey, vr: str) -> None:
    assert sweep(PROFILES["full-dates"], key, 1, "sequence", vr).leaks == ()


@pytest.mark.filterwarnings("ignore:Invalid value", "ignore:Value exceeds", "ignore:The value length")
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_sweep_finds_what_leaks(depth: int) -> None:
    found = find_leaks(PROFILES["stream"], plant(depth, "sequence"), depth)
    assert len({text.split()[0] for text in found}) > 600


def rich(files: ModuleType) -> Any:
    sample = files.make_sample()
    sample.attributes |= {
        0x0008_0020: ("DA", b"20240131"),
        0x0008_0030: ("TM", b"101500"),
        0x0008_0070: ("LO", b"Acme Imaging"),
        0x0008_0080: ("LO", b"Heart Hospital"),
        0x0008_1030: ("LO", b"Fetal HEART screening of QXCANARY, second trimester"),
        0x0008_1090: ("LO", b"Model-7 (rev. 2)"),
        0x0010_0010: ("PN", b"QXCANARY^JANE"),
        0x0010_0040: ("CS", b"F"),
        0x0010_1010: ("AS", b"031Y"),
        0x0010_1030: ("DS", b"64.5"),
        0x0010_21D0: ("DA", b"20230901"),
        0x0018_1020: ("LO", b"QXCANARY 1.0"),
        0x0018_6031: ("CS", b"CURVED LINEAR"),
    }
    return sample


def clean(
    files: ModuleType, key: PseudonymKey, name: str, sample: Any = None, *, book: str = "book"
) -> pydicom.Dataset:
    sample = sample or rich(files)
    output, _ = Deidentifier(codes_for(PROFILES[name], key, book), PROFILES[name]).deidentify_bytes(sample.part10())
    return pydicom.dcmread(io.BytesIO(output))


def test_research_keeps_what_its_options_let_it(files: ModuleType, key: PseudonymKey) -> None:
    out = clean(files, key, "research")
    assert (out.PatientSex, out.PatientAge, float(out.PatientWeight)) == ("F", "031Y", 64.5)
    assert (out.Manufacturer, out.ManufacturerModelName, out.TransducerType) == (
        "Acme Imaging", "Model-7 (rev. 2)", "CURVED LINEAR",
    )  # fmt: skip
    assert out.StudyDescription == "Fetal screening of second trimester", "a word of the institution's name goes, too"
    assert "SoftwareVersions" not in out, "it names the patient"
    study, last = (
        pydicom.valuerep.DA(out.StudyDate),
        pydicom.valuerep.DA(out.LastMenstrualDate),
    )
    assert study is not None
    assert last is not None
    assert (study - last).days == 152
    assert out.StudyDate != "20240131"
    assert out.StudyTime == "101500"
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = {item.CodeValue for item in out.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113101", "113105", "113107", "113108", "113109"}


def test_full_dates_stay(files: ModuleType, key: PseudonymKey) -> None:
    out = clean(files, key, "full-dates")
    assert (out.StudyDate, out.LastMenstrualDate) == ("20240131", "20230901")
    assert out.LongitudinalTemporalInformationModified == "UNMODIFIED"
    assert "113106" in {item.CodeValue for item in out.DeidentificationMethodCodeSequence}


def test_the_stream_has_no_date_and_no_text(files: ModuleType, key: PseudonymKey) -> None:
    out = clean(files, key, "stream")
    assert not out.StudyDate
    assert "StudyDescription" not in out
    assert not out.Manufacturer
    assert {item.CodeValue for item in out.DeidentificationMethodCodeSequence} == {"113100", "113101"}


def test_safe_harbor_has_years_and_codes_that_no_key_gives(files: ModuleType, key: PseudonymKey) -> None:
    first, second = (clean(files, key, "safe-harbor", book=book) for book in "ab")
    assert (first.StudyDate, first.LastMenstrualDate, first.PatientAge) == ("20240101", "20230101", "031Y")
    assert not first.StudyTime
    assert not first.Manufacturer
    assert "StudyDescription" not in first
    assert first.PatientID != second.PatientID, "another book, another code"
    keyed = clean(files, key, "stream")
    assert first.SOPInstanceUID not in (keyed.SOPInstanceUID, second.SOPInstanceUID)
    with pytest.raises(SettingsError, match="Expected random codes"):
        Deidentifier(key, PROFILES["safe-harbor"])


def test_the_same_patient_has_one_shift_and_another_has_another(files: ModuleType, key: PseudonymKey) -> None:
    shifts = set()
    for patient in (b"A-1", b"A-1", b"B-2"):
        sample = rich(files)
        sample.attributes[0x0010_0020] = ("LO", patient)
        out = clean(files, key, "research", sample)
        moved = pydicom.valuerep.DA(out.StudyDate)
        assert moved is not None
        days = (moved - pydicom.valuerep.DA("20240131")).days  # type: ignore[operator]
        assert days == shift_days(key, out.PatientID)
        shifts.add(days)
    assert len(shifts) == 2


@pytest.mark.parametrize(
    ("age", "kept"), [(b"031Y", True), (b"089Y", True), (b"090Y", False), (b"QXY", False), (b"032W", True)]
)
def test_great_ages_go(files: ModuleType, key: PseudonymKey, age: bytes, kept: bool) -> None:
    sample = rich(files)
    sample.attributes[0x0010_1010] = ("AS", age)
    assert ("PatientAge" in clean(files, key, "research", sample)) is kept


@pytest.mark.parametrize(
    "name",
    [
        "Acme of QXCANARY",
        "qxcanary",
        "AcmeQXCANARY",
        "J\xe4ne",
        "Acme;Co",
        "x" * 65,
        "Jane's",
    ],
)
def test_no_name_passes_as_a_product(files: ModuleType, key: PseudonymKey, name: str) -> None:
    sample = rich(files)
    sample.attributes[0x0008_0070] = ("LO", name.encode("latin-1"))
    assert not clean(files, key, "research", sample).Manufacturer


def test_an_explanation_says_what_the_engine_does(files: ModuleType, key: PseudonymKey, profile: Profile) -> None:
    sample = rich(files)
    out, _ = Deidentifier(codes_for(profile, key), profile).deidentify_bytes(sample.part10())
    dataset = pydicom.dcmread(io.BytesIO(out))
    for tag, (_, value) in sample.attributes.items():
        fate = explain(profile, tag).fate
        left = dataset[tag].value if tag in dataset else None
        if fate is Fate.REMOVED:
            assert tag not in dataset
        elif fate is Fate.EMPTIED:
            assert left in ("", None) or not left
        elif fate is Fate.KEPT and isinstance(value, bytes) and CANARY.encode() not in value and tag != 0x0028_0004:
            assert left not in ("", None), pydicom.datadict.keyword_for_tag(tag)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nversion = 1\ndates = "shift"', "modified_dates with the dates policy shift"),
        ('name = "x"\nversion = 1\nkeep = ["patient"]', "an option by which PatientSex may be kept"),
        ('name = "x"\nversion = 1\noptions = ["retain_uids"]', "Expected options among"),
        ('name = "x"\nversion = 1\noptions = ["retain_all"]', "Expected a profile as TOML"),
        ('name = "x"\nversion = 1\nother = 1', "Expected a profile as TOML"),
        ("name = ", "Expected a profile as TOML"),
    ],
)
def test_a_profile_that_contradicts_the_table_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_profile(text.encode())


def test_digests_tell_profiles_apart() -> None:
    assert len({profile.digest for profile in PROFILES.values()}) == len(PROFILES)
    changed = 'name = "stream"\nversion = 2\n[regions]\nleast_side = 17'
    assert read_profile(changed.encode()).digest != PROFILES["stream"].digest
