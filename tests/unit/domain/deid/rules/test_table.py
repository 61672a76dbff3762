"""The table is the standard's: its counts, its digest, and how its rows are found."""

from __future__ import annotations

import hashlib

import pytest

from fetalmlops.domain.deid.rules.table import CODES, Action, Option, Table, standard_table
from fetalmlops.domain.errors import ContractError

TABLE = standard_table()
DIGEST = "f89da9739d29"


def test_the_rows_are_those_of_the_edition() -> None:
    assert len(TABLE) == 656
    assert len({row.tag for row in TABLE.rows}) == 656
    assert sum(row.since == "2026c" for row in TABLE.rows) == 35
    earlier = {code: sum(row.basic == code and row.since == "2024b" for row in TABLE.rows) for code in TABLE.counts}
    assert earlier == {
        "X": 384, "D": 92, "U": 54, "Z": 42, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2,
    }  # fmt: skip
    assert TABLE.digest.startswith(DIGEST), "the table is data of a standard: it changes with its edition only"
    assert len(TABLE.digest) == hashlib.sha256().digest_size * 2


def test_the_columns_of_the_options_are_those_of_the_edition() -> None:
    counts = {
        option: [sum(row.options.get(option) is action for row in TABLE.rows) for action in (Action.KEEP, Action.CLEAN)]
        for option in Option
    }
    assert counts == {
        Option.SAFE_PRIVATE: [0, 1],
        Option.UIDS: [59, 0],
        Option.DEVICE: [46, 11],
        Option.INSTITUTION: [10, 0],
        Option.PATIENT: [9, 4],
        Option.FULL_DATES: [165, 0],
        Option.MODIFIED_DATES: [0, 165],
        Option.DESCRIPTORS: [0, 125],
        Option.STRUCTURED: [0, 3],
        Option.GRAPHICS: [0, 4],
    }
    assert set(CODES) == set(Option)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (0x0010_0010, "Patient's Name"),
        (0x0009_1001, "Private Attributes"),
        (0x6002_4000, "Overlay Comments"),
        (0x601E_3000, "Overlay Data"),
        (0x50FE_0022, "Curve Data"),
        (0x0010_0012, "Name to Use"),
    ],
)
def test_rows_are_found(tag: int, name: str) -> None:
    row = TABLE.find(tag)
    assert row is not None
    assert row.name == name


@pytest.mark.parametrize("tag", [0x0028_0010, 0x0008_0070, 0x6002_0010])
def test_where_the_table_is_silent_there_is_no_row(tag: int) -> None:
    assert TABLE.find(tag) is None
    assert TABLE.rule(tag, ()).keeps


def test_cleaning_goes_before_keeping() -> None:
    options = (Option.FULL_DATES, Option.MODIFIED_DATES)
    ruling = TABLE.rule(0x0008_0020, options)
    assert (ruling.actions, ruling.option) == ((Action.CLEAN,), Option.MODIFIED_DATES)
    assert TABLE.rule(0x0008_0020, (Option.DEVICE,)).option is None


def test_a_row_of_the_later_edition_takes_its_basic_action_under_every_option() -> None:
    assert TABLE.rule(0x0010_0012, tuple(Option)).actions == (Action.REMOVE,)


@pytest.mark.parametrize("row", ["00100010\tName\tQ\t2024b", "00100010\tName\tX", "00100010\tName\tX\t2024b\tV"])
def test_a_broken_table_is_refused(row: str) -> None:
    head = "tag\tname\tbasic\tsince\t" + "\t".join(Option)
    with pytest.raises(ContractError, match=r"Expected a row of Table E\.1-1"):
        Table(f"{head}\n{row}\n".encode())
