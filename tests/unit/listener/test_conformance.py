"""The conformance statement says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetalmlops.listener.conformance import TABLES
from fetalmlops.platform.documents import fill

DOCUMENT = Path(__file__).parents[3] / "docs" / "conformance.md"
SECTIONS = [
    "1 Overview",
    "2 Table of contents",
    "3 Introduction",
    "4 Networking",
    "5 Media interchange",
    "6 Support of character sets",
    "7 Security",
    "8 Annexes",
]


def test_the_tables_are_current() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert fill(text, TABLES) == text, "run python -m fetalmlops.listener.conformance docs/conformance.md"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_is_in_the_document(name: str) -> None:
    assert f"<!-- table: {name} -->" in DOCUMENT.read_text("utf-8")
    assert TABLES[name]().count("\n") > 2


def test_the_structure_is_that_of_ps3_2() -> None:
    lines = DOCUMENT.read_text("utf-8").splitlines()
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == SECTIONS


def test_a_stale_table_is_noticed() -> None:
    stale = "before\n<!-- table: storage -->\n| old |\n<!-- end -->\nafter"
    assert "Ultrasound Image Storage" in fill(stale, TABLES)
    assert fill(fill(stale, TABLES), TABLES) == fill(stale, TABLES)


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("<!-- table: other -->\n<!-- end -->", TABLES)
