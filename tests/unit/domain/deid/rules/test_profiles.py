"""Profiles of a site: private safe list, institution and references, and the contradictions that are refused."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pydicom
import pytest

from fetalmlops.domain.deid import PROFILES, Deidentifier
from fetalmlops.domain.deid.rules import concepts, content
from fetalmlops.domain.deid.rules import profile as profiles
from fetalmlops.domain.deid.rules.explain import explain
from fetalmlops.domain.deid.rules.profile import packaged_profile, read_profile
from fetalmlops.domain.errors import SettingsError
from support.dicom_files import BIG, EXPLICIT, IMPLICIT, Encoding

if TYPE_CHECKING:
    from types import ModuleType

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

PRIVATE = """
[[private]]
creator = "ACME US"
group = 0x0019
element = 0x01
vr = "DS"
numbers = [0, 100]
[[private]]
creator = "ACME US"
group = 0x0019
element = 0x02
vr = "CS"
words = ["FETAL", "CARDIAC"]
[[private]]
creator = "OTHER"
group = 0x0019
element = 0x01
vr = "US"
numbers = [1, 9]
most = 2
"""
SITE = """name = "site"
version = 1
options = ["clean_structured_content", "retain_safe_private", "retain_institution_identity"]
keep = ["institution", "references"]
"""


def clean(sample: Any, key: PseudonymKey, toml: str = SITE + PRIVATE) -> pydicom.Dataset:
    output, _ = Deidentifier(key, read_profile(toml.encode())).deidentify_bytes(sample.part10())
    assert b"CANARY" not in output
    return pydicom.dcmread(io.BytesIO(output))


def hidden(block: int) -> dict[int, Any]:
    """Return private attributes with the creator in one block and another one's in the next."""
    own, other = block << 8, (block + 1) << 8
    return {
        0x0019_0000 | block: ("LO", b"ACME US "),
        0x0019_0000 | block + 1: ("LO", b"CANARY CREATOR"),
        0x0019_0001 | own: ("DS", b"42.5"),
        0x0019_0002 | own: ("CS", b"FETAL"),
        0x0019_0003 | own: ("LO", b"CANARY unlisted"),
        0x0019_0001 | other: ("DS", b"43.5"),
        0x0019_0002 | other: ("CS", b"CARDIAC"),
        0x0021_1001: ("LO", b"CANARY without creator"),
    }


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("block", [0x10, 0x11, 0x7E, 0xFE])
def test_private_attributes_are_known_by_their_creator(
    files: ModuleType, key: PseudonymKey, block: int, syntax: str
) -> None:
    sample = files.make_sample(syntax)
    sample.attributes |= hidden(block)
    dataset = clean(sample, key)
    private = {element.tag: element.value for element in dataset if element.tag.is_private}
    values = {tag: value.decode().strip() if isinstance(value, bytes) else str(value) for tag, value in private.items()}
    assert values == {0x0019_0010: "ACME US", 0x0019_1001: "42.5", 0x0019_1002: "FETAL"}
    assert "113111" in {item.CodeValue for item in dataset.DeidentificationMethodCodeSequence}


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "delimiters"])
def test_two_creators_get_a_block_each_and_what_fails_its_check_goes(
    files: ModuleType, key: PseudonymKey, undefined: bool
) -> None:
    sample = files.make_sample()
    sample.undefined = undefined
    sample.attributes |= hidden(0x10) | {
        0x0019_0030: ("LO", b"OTHER"),
        0x0019_3001: ("US", b"\3\0\4\0"),
        0x0019_1001: ("DS", b"8154711081"),
        0x0019_1101: ("SQ", [{0x0010_0010: ("PN", b"CANARY^IN^PRIVATE")}]),
        0x0019_1102: ("UN", Encoding(implicit=True).items([{0x0010_0010: ("PN", b"CANARY^IN^PRIVATE")}])),
    }
    dataset = clean(sample, key)
    assert {element.tag for element in dataset if element.tag.is_private} == {
        0x0019_0010,
        0x0019_0011,
        0x0019_1002,
        0x0019_1101,
    }
    assert dataset[0x0019_0011].value == "OTHER"


def test_a_creator_that_stands_twice_keeps_nothing_that_is_in_both(files: ModuleType, key: PseudonymKey) -> None:
    sample = files.make_sample()
    sample.attributes |= hidden(0x10) | {0x0019_0020: ("LO", b"ACME US"), 0x0019_2001: ("DS", b"44")}
    assert {element.tag for element in clean(sample, key) if element.tag.is_private} == {0x0019_0010, 0x0019_1002}


@pytest.mark.parametrize("name", PROFILES)
def test_the_packaged_profiles_keep_nothing_private(name: str) -> None:
    assert PROFILES[name].private == ()
    assert not PROFILES[name].keeps_references
    assert explain(PROFILES[name], 0x0019_1001).fate == "removed"


INSTITUTION = [
    (b"St. Mary's Hospital, Maternity", "St. Mary's Hospital, Maternity"),
    (b"Hospital of DOE", None),
    (b"Ward 4711", None),
    (b"near JANEDOE house", None),
    (b"born 03.02.1961", None),
    (b"610203", None),
    (b"of Dr. Greenfield", None),
    (b"H\xf4pital", None),
]


@pytest.mark.parametrize(("name", "kept"), INSTITUTION)
def test_the_institution_stays_where_it_names_nobody(
    files: ModuleType, key: PseudonymKey, name: bytes, kept: str | None
) -> None:
    sample = files.make_sample()
    sample.attributes |= {
        0x0008_0080: ("LO", name),
        0x0008_0081: ("ST", name + b"\r\n12 Main Road"),
        0x0008_0090: ("PN", b"GREENFIELD^ANN"),
        0x0010_0010: ("PN", b"DOE^JANE"),
        0x0010_0020: ("LO", b"4711"),
        0x0010_0030: ("DA", b"19610203"),
    }
    dataset = clean(sample, key)
    assert dataset.get("InstitutionName") == kept
    assert ("InstitutionAddress" in dataset) is (kept is not None)
    assert "113112" in {item.CodeValue for item in dataset.DeidentificationMethodCodeSequence}
    assert "InstitutionName" not in clean(sample, key, packaged_profile("stream").decode())


def test_references_of_images_stay_by_a_group_only(files: ModuleType, key: PseudonymKey) -> None:
    sample = files.make_sample()
    entry = {
        0x0008_1150: ("UI", b"1.2.840.10008.5.1.4.1.1.6.1"),
        0x0008_1155: ("UI", b"1.2.826.0.1.3680043.10.777.1"),
        0x0040_A170: ("SQ", [{0x0008_0104: ("LO", b"CANARY purpose")}]),
    }
    unknown = entry | {0x0008_1150: ("UI", b"1.2.826.0.1.3680043.10.777.2")}
    sample.attributes |= {0x0008_2112: ("SQ", [entry, unknown]), 0x0008_1140: ("SQ", [unknown])}
    dataset = clean(sample, key)
    assert [item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence] == [
        key.uid("1.2.826.0.1.3680043.10.777.1")
    ]
    assert "ReferencedImageSequence" not in dataset
    assert "3680043.10.777" not in str(dataset)
    assert "SourceImageSequence" not in clean(sample, key, packaged_profile("research").decode())


CONTRADICTIONS = [
    ('options = ["retain_safe_private"]', "private attributes and the option retain_safe_private together"),
    (PRIVATE, "private attributes and the option retain_safe_private together"),
    ('options = ["retain_institution_identity"]', "the group institution with the option retain_institution_identity"),
    ('keep = ["institution"]', "an option by which InstitutionName may be kept"),
    ('keep = ["dates"]\ndates = "shift"', "modified_dates with the dates policy shift"),
    ('keep = ["references", "references"]', "each group once"),
    ('options = ["retain_uids"]', "options among"),
    ('options = ["retain_safe_private"]' + PRIVATE + PRIVATE, "each private attribute once"),
    ('options = ["retain_safe_private"]' + PRIVATE.replace("0x0019", "0x0018"), "an odd group"),
    ('options = ["retain_safe_private"]' + PRIVATE.replace("0x01", "0x1001"), "an element of two digits"),
    ('options = ["retain_safe_private"]' + PRIVATE.replace('"DS"', '"PN"'), "one of CS, LO, SH"),
    ('options = ["retain_safe_private"]' + PRIVATE.replace("numbers = [0, 100]", ""), "words for a text"),
    ('options = ["retain_safe_private"]' + PRIVATE.replace('"OTHER"', '""'), "a creator of 1 to 64"),
]


@pytest.mark.parametrize(("text", "message"), CONTRADICTIONS)
def test_contradictions_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_profile(f'name = "site"\nversion = 1\n{text}'.encode())


def test_both_are_explained() -> None:
    site = read_profile((SITE + PRIVATE).encode())
    found = explain(site, 0x0019_2301)
    assert found.fate == "kept"
    assert "of creator ACME US: numbers from 0 to 100" in found.how
    assert "of creator OTHER" in found.how
    assert "retain_safe_private" in found.standard
    assert explain(site, 0x0019_2303).fate == "removed"
    assert explain(site, 0x0019_0010).fate == "replaced"
    institution = explain(site, 0x0008_0080)
    assert (institution.fate.value, "names the patient" in institution.how) == ("kept", True)
    assert "retain_institution_identity" in institution.standard
    assert explain(site, 0x0040_A730).fate == "cleaned"
    assert "retain" not in explain(PROFILES["stream"], 0x0008_0080).standard


def test_the_digest_covers_all_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(text: str = SITE + PRIVATE) -> str:
        return read_profile(text.encode()).digest

    first = digest()
    assert first == digest()
    assert digest(SITE + PRIVATE.replace("100]", "101]")) != first
    assert digest(SITE + PRIVATE.replace("OTHER", "ANOTHER")) != first
    assert (
        digest(
            SITE.replace('"references"', '"dates"').replace("options = [", 'options = ["retain_full_dates", ')
            + 'dates = "full"'
            + PRIVATE
        )
        != first
    )
    with monkeypatch.context() as changed:
        changed.setitem(content.UNIT_LIMITS, "mm", 1.0)
        assert digest() != first
    with monkeypatch.context() as changed:
        changed.setattr(content, "HIDDEN_WORDS", content.HIDDEN_WORDS - {"birth"})
        assert digest() != first
    with monkeypatch.context() as changed:
        data = concepts.known_concepts()
        other = concepts.Concepts(b"scheme\tvalue\tmeaning\tlegacy\n")
        assert other.digest != data.digest
        changed.setattr(profiles, "known_concepts", lambda: other)
        assert digest() != first
    assert replace(PROFILES["stream"], version=99).digest != PROFILES["stream"].digest
    assert digest() == first


def test_the_digest_is_the_same_in_every_process() -> None:
    code = "from fetalmlops.domain.deid import PROFILES; print(PROFILES['research'].digest)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == PROFILES["research"].digest
