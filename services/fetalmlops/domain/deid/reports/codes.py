"""Coded entries: kept where the code is known, with the meaning that the list of known codes gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.deid.files.writer import text

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item, Wanted
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.rules.concepts import Concepts, Known

__all__ = ["WANTED_CODE", "WORD_BYTES", "encode_code", "read_code", "word"]

WORD_BYTES = 64
"""Longest value of a code, a word or a UID."""

_VALUE, _SCHEME, _MEANING = 0x0008_0100, 0x0008_0102, 0x0008_0104

WANTED_CODE: Wanted = {_VALUE: WORD_BYTES, _SCHEME: WORD_BYTES}
"""What is read of a coded entry: its meaning is not."""


def word(item: Item, tag: int) -> str:
    """Return a short value as text, empty if there is none or it is not ASCII."""
    value = item.values.get(tag)
    if value is None or not value.data.isascii():
        return ""
    return value.data.decode("ascii").strip(" \0")


def read_code(item: Item, tag: int, concepts: Concepts) -> Known | None:
    """Return the code of a sequence of one coded entry, None if it is not known."""
    entries = item.items.get(tag, ())
    if len(entries) != 1:
        return None
    return concepts.find(word(entries[0], _VALUE), word(entries[0], _SCHEME))


def encode_code(code: Known) -> list[Attributes]:
    """Return a code as the items of its sequence."""
    return [
        {_VALUE: ("SH", text(code.value)), _SCHEME: ("SH", text(code.scheme)), _MEANING: ("LO", text(code.meaning))}
    ]
