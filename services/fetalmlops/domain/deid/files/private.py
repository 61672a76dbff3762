"""Private attributes of the safe list: found by their creator, checked, and written in blocks of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.deid.files.writer import text
from fetalmlops.domain.deid.rules.checks import check_value
from fetalmlops.domain.deid.rules.private import BLOCKS, CREATOR_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.deid.files.reader import Item, Wanted
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.rules.checks import Context
    from fetalmlops.domain.deid.rules.private import SafePrivate

__all__ = ["clean_private", "wanted_private"]

_VALUE_BYTES = 65534


def wanted_private(safe: Iterable[SafePrivate]) -> Wanted:
    """Return what must be read to find the attributes of a list: in every block that a creator may have reserved."""
    wanted: Wanted = {}
    for rule in safe:
        for block in BLOCKS:
            wanted[rule.group << 16 | block] = CREATOR_BYTES
            wanted[rule.group << 16 | block << 8 | rule.element] = _VALUE_BYTES
    return wanted


def clean_private(dataset: Item, safe: Iterable[SafePrivate], context: Context) -> Attributes:
    """Return the private attributes that a list keeps, and their creators: the first block of a group is 10."""
    clean: Attributes = {}
    written: dict[tuple[int, str], int] = {}
    for rule in sorted(safe, key=lambda rule: rule.key):
        group, creator, element = rule.key
        values = [dataset.values.get(group << 16 | block << 8 | element) for block in _blocks(dataset, group, creator)]
        found = [value for value in values if value is not None]
        kept = check_value(rule.vr, rule.check, found[0], context) if len(found) == 1 else None
        if kept is None:
            continue
        block = written.setdefault((group, creator), BLOCKS[0] + sum(number == group for number, _ in written))
        clean[group << 16 | block] = ("LO", text(creator))
        clean[group << 16 | block << 8 | element] = (rule.vr, kept.data)
    return clean


def _blocks(dataset: Item, group: int, creator: str) -> list[int]:
    """Return the blocks of a creator; one that is reserved twice may be either's."""
    values = ((block, dataset.values.get(group << 16 | block)) for block in BLOCKS)
    name = creator.encode("ascii")
    return [block for block, value in values if value is not None and value.data.strip(b" \0") == name]
