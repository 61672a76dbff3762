"""PS3.15 Table E.1-1 as data: what the profile and each of its options do with an attribute.

Basic actions are of edition 2026c, the options' of edition 2024b (``data/NOTICE``); rows that only the later one has take their
basic action under every option.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["CODES", "EDITION", "Action", "Option", "Row", "Ruling", "Table", "standard_table"]

EDITION = "2026c"
"""Edition of PS3.15 whose basic actions these are."""

_FILE = "data/ps3_15_e1_1.tsv"
_PRIVATE = "PRIVATE"


class Option(StrEnum):
    """An option of the profile that has a column in the table (PS3.15 E.3)."""

    SAFE_PRIVATE = "retain_safe_private"
    UIDS = "retain_uids"
    DEVICE = "retain_device_identity"
    INSTITUTION = "retain_institution_identity"
    PATIENT = "retain_patient_characteristics"
    FULL_DATES = "retain_full_dates"
    MODIFIED_DATES = "modified_dates"
    DESCRIPTORS = "clean_descriptors"
    STRUCTURED = "clean_structured_content"
    GRAPHICS = "clean_graphics"


CODES: dict[Option, tuple[str, str]] = {
    Option.GRAPHICS: ("113103", "Clean Graphics Option"),
    Option.STRUCTURED: ("113104", "Clean Structured Content Option"),
    Option.DESCRIPTORS: ("113105", "Clean Descriptors Option"),
    Option.FULL_DATES: ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    Option.MODIFIED_DATES: ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Option.PATIENT: ("113108", "Retain Patient Characteristics Option"),
    Option.DEVICE: ("113109", "Retain Device Identity Option"),
    Option.UIDS: ("113110", "Retain UIDs Option"),
    Option.SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
    Option.INSTITUTION: ("113112", "Retain Institution Identity Option"),
}
"""Code value and meaning of each option (PS3.16 CID 7050)."""


class Action(StrEnum):
    """What the table does with an attribute (PS3.15 E.1.1)."""

    KEEP = "K"
    CLEAN = "C"
    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    UID = "U"


_BASIC = {code: tuple(Action(part) for part in code.strip("*").split("/")) for code in
    ("X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*")}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row: `tag` has eight hexadecimal digits, X for any; `basic` is the action code as the standard writes it."""

    tag: str
    name: str
    basic: str
    since: str
    options: Mapping[Option, Action] = field(default_factory=dict)

    @property
    def actions(self) -> tuple[Action, ...]:
        """The basic actions that the standard leaves to choose from, by the attribute's type in its IOD."""
        return _BASIC[self.basic]


@dataclass(frozen=True)
class Ruling:
    """What holds for an attribute: any of `actions`, and the row and option that say so; no row where the table is silent."""

    actions: tuple[Action, ...]
    row: Row | None = None
    option: Option | None = None

    @property
    def keeps(self) -> bool:
        """Whether a value may stay, as it is or cleaned."""
        return self.row is None or bool({Action.KEEP, Action.CLEAN} & set(self.actions))


class Table:
    """The rows, found by tag.

    Parameters
    ----------
    data
        The table as tab-separated values, UTF-8.

    Raises
    ------
    ContractError
        If a row breaks the table's form.
    """

    def __init__(self, data: bytes) -> None:
        self.digest = hashlib.sha256(data).hexdigest()
        self.rows = tuple(_row(values) for values in csv.DictReader(data.decode().splitlines(), delimiter="\t"))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many rows have which basic action."""
        return dict(Counter(row.basic for row in self.rows))

    def find(self, tag: int) -> Row | None:
        """Return the row of a tag, if it has one."""
        text = f"{tag:08X}"
        if tag >> 16 & 1:
            return self._exact[_PRIVATE]
        return self._exact.get(text) or next((row for row in self._repeating if _matches(row.tag, text)), None)

    def rule(self, tag: int, options: Collection[Option]) -> Ruling:
        """Return what holds for an attribute under options: cleaning before keeping where they differ.

        Examples
        --------
        >>> standard_table().rule(0x0008_0020, ()).actions
        (<Action.EMPTY: 'Z'>,)
        >>> standard_table().rule(0x0008_0020, (Option.FULL_DATES,)).actions
        (<Action.KEEP: 'K'>,)
        """
        row = self.find(tag)
        if row is None:
            return Ruling(())
        found = [(row.options[option], option) for option in Option if option in options and option in row.options]
        if not found:
            return Ruling(row.actions, row)
        action, option = min(found, key=lambda item: item[0] is Action.KEEP)
        return Ruling((action,), row, option)

    @cached_property
    def _exact(self) -> dict[str, Row]:
        return {row.tag: row for row in self.rows}

    @cached_property
    def _repeating(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.tag != _PRIVATE and "X" in row.tag)


@cache
def standard_table() -> Table:
    """Return the table that comes with the package."""
    return Table((resources.files("fetalmlops.domain.deid.rules") / _FILE).read_bytes())


def _row(values: Mapping[str, str]) -> Row:
    try:
        basic, since = values["basic"], values["since"].strip()
        options = {option: Action(values[option]) for option in Option if values[option]}
        _BASIC[basic]
        return Row(values["tag"], values["name"], basic, since, options)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        msg = f"Expected a row of Table E.1-1 with tag, name, action and options, got one without ({type(error).__name__})"
        raise ContractError(msg) from None


def _matches(pattern: str, text: str) -> bool:
    return all(expected in ("X", digit) for expected, digit in zip(pattern, text, strict=True))
