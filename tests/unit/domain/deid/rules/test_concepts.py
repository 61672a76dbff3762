"""The list of known codes against the library that it was made from."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest
from pydicom.sr._concepts_dict import concepts as reference

from fetalmlops.domain.deid.rules.concepts import known_concepts
from fetalmlops.domain.deid.rules.content import LABELLED, OLDEST, PATIENT_CONCEPTS, TRACKED, UNIT_LIMITS


def test_meanings_are_those_of_the_standard() -> None:
    known, meanings = known_concepts(), defaultdict(set)
    for scheme in ("DCM", "LN", "SCT", "UCUM"):
        for entries in reference[scheme].values():
            for value, (meaning, _) in entries.items():
                meanings[scheme, value].add(meaning.replace("\u200b", "").strip()[:64])
    compared = {code: found for code in meanings if (found := known.find(*reversed(code)))}
    assert len(compared) > 11_000
    assert len(known) - len(compared) <= 60
    for code, found in compared.items():
        assert any(meaning.startswith(found.meaning) for meaning in meanings[code]), code


def test_each_meaning_can_be_written() -> None:
    for (scheme, value), meaning in known_concepts()._meanings.items():
        assert meaning.isascii()
        assert 0 < len(meaning) <= 64
        assert 0 < len(value) <= 16
        assert 0 < len(scheme) <= 16
        assert "\\" not in meaning


@pytest.mark.parametrize(
    ("value", "scheme", "meaning"),
    [
        ("T-D1100", "SRT", "Head structure (body structure)"),
        ("T-D1100", "SNM3", "Head structure (body structure)"),
        ("mm", "UCUM", "mm"),
        ("MM", "UCUM", None),
        ("11820-8", "DCM", None),
        ("11820-8 ", "LN", None),
        ("T-D1100", "99SDM", None),
        ("", "", None),
    ],
)
def test_a_code_is_known_by_value_and_scheme(value: str, scheme: str, meaning: str | None) -> None:
    found = known_concepts().find(value, scheme)
    assert (found.meaning if found else None) == meaning


def test_the_rules_name_codes_that_are_known() -> None:
    for scheme, value in LABELLED | TRACKED | PATIENT_CONCEPTS:
        assert known_concepts().find(value, scheme) is not None, value
    for unit in {*UNIT_LIMITS, *OLDEST}:
        assert known_concepts().find(unit, "UCUM") is not None, unit


def test_the_engine_loads_no_dictionary_of_a_library() -> None:
    code = "import sys, fetalmlops.domain.deid; print([m for m in sys.modules if m.startswith('pydicom.sr')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
