"""The operations document says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from fetalmlops.cli.documents import TABLES
from fetalmlops.platform.documents import fill
from fetalmlops.platform.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"


def test_the_tables_are_current() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert fill(text, TABLES) == text, "run python -m fetalmlops.cli.documents docs/operations.md"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_is_in_the_document(name: str) -> None:
    assert f"<!-- table: {name} -->" in DOCUMENT.read_text("utf-8")
    assert TABLES[name]().count("\n") > 2


def test_every_setting_is_explained() -> None:
    rows = [line.split(" | ") for line in TABLES["settings"]().splitlines()[2:]]
    assert len(rows) > len(Settings.model_fields)
    assert [row[0] for row in rows if not row[3].strip(" |")] == []


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("<!-- table: other -->\n<!-- end -->", TABLES)
