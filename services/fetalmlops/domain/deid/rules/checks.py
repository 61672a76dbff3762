"""What a value must look like to be kept: numbers within a range, words of a list, dates under the policy.

A number out of its range is removed like a word out of its list: text read as binary numbers falls out of these ranges.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fetalmlops.domain.deid.rules.dates import Dates

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Value

__all__ = [
    "Age",
    "Check",
    "Context",
    "Kept",
    "Moments",
    "Numbers",
    "Phrase",
    "Place",
    "Vocabulary",
    "Words",
    "check_value",
]

_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_INTEGER = re.compile(rb"[+-]?[0-9]{1,10}")
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]{1,10}(?:\.[0-9]{0,14})?|\.[0-9]{1,14})(?:[eE][+-]?[0-9]{1,2})?")
_DECIMAL_BYTES = 16
_SMALLEST = 1e-9
_SMALLEST_SINGLE = 1e-3  # digits read as single-precision numbers lie below it
_LONGEST = 65534
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_OLDEST = 89
_TOKEN = re.compile(r"[A-Za-z0-9]+")
_PHRASE = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9 ._+/()-]{1,64}")
_PLACE = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ._+/(),;:'&#\r\n-]{1,1024}", re.DOTALL)
_LONGEST_PHRASE = 64
_MOST_PARTS = 16
_TELLING = 4


@dataclass(frozen=True)
class Numbers:
    """Between `least` and `most` numbers, each within [`low`, `high`]."""

    low: float
    high: float
    least: int = 1
    most: int = 1


@dataclass(frozen=True)
class Words:
    """Between one and `most` words of a list."""

    allowed: tuple[str, ...]
    most: int = 1


@dataclass(frozen=True)
class Moments:
    """A date or a time, as the profile's policy leaves it."""


@dataclass(frozen=True)
class Age:
    """An age of PS3.5 section 6.2 (AS) of at most 89 years."""


@dataclass(frozen=True)
class Phrase:
    """What a product or its part may be called: Latin letters, digits and a few signs, without any token of the patient."""


@dataclass(frozen=True)
class Place:
    """What an institution may be called, and where it stands: ASCII without any token of the patient or of another person."""


@dataclass(frozen=True)
class Vocabulary:
    """Text of which only the words of a list stay, and of these none that names the patient."""

    words: frozenset[str]


_Text = Moments | Age | Phrase | Place | Vocabulary
Check = Numbers | Words | _Text


@dataclass(frozen=True)
class Context:
    """What checks need to know of the instance: its dates' policy, and tokens in capitals.

    Parameters
    ----------
    dates
        What becomes of dates.
    tokens
        Words that name the patient or those around them.
    persons
        Words and numbers of these that name the patient and other persons, but not institutions.
    """

    dates: Dates = field(default_factory=Dates)
    tokens: frozenset[str] = frozenset()
    persons: frozenset[str] = frozenset()


class Kept(NamedTuple):
    """A value that passed: `numbers` or `words` for reading, `data` as Explicit VR Little Endian for writing."""

    data: bytes
    numbers: tuple[float, ...] = ()
    words: tuple[str, ...] = ()


_NOTHING = Context()


def check_value(vr: str, check: Check, value: Value, context: Context = _NOTHING) -> Kept | None:
    """Return a value as it may be kept, or None if it must not be.

    Parameters
    ----------
    vr
        The attribute's value representation in the standard.
    check
        What it must look like.
    value
        The value as read.
    context
        What is known of the instance.

    Examples
    --------
    >>> from fetalmlops.domain.deid.files.reader import Value
    >>> check_value("IS", Numbers(1, 9), Value("IS", b"5 ", little=True))
    Kept(data=b'5', numbers=(5,), words=())
    >>> check_value("IS", Numbers(1, 9), Value("IS", b"4711", little=True)) is None
    True
    """
    if value.vr not in ("", "UN", vr) or not value.data:
        return None
    if isinstance(check, Words):
        return _words(check, value.data)
    if isinstance(check, _Text):
        return _text(vr, check, value.data, context)
    return _binary(vr, check, value) if vr in _BINARY else _decimal(vr, check, value.data)


def _words(check: Words, data: bytes) -> Kept | None:
    words = tuple(part.strip(b" \0").decode("ascii", "replace") for part in data.split(b"\\"))
    if len(words) > check.most or not all(word in check.allowed for word in words):
        return None
    return Kept("\\".join(words).encode("ascii"), words=words)


def _text(vr: str, check: _Text, data: bytes, context: Context) -> Kept | None:
    try:
        parts = [part.strip(" \0") for part in data.decode("ascii").split("\\")]
    except UnicodeDecodeError:
        return None
    kept = [_part(vr, check, part, context) for part in parts if part]
    if not kept or len(kept) > _MOST_PARTS or not all(kept):
        return None
    words = tuple(part for part in kept if part)
    return Kept("\\".join(words).encode(), words=words)


def _part(vr: str, check: _Text, part: str, context: Context) -> str | None:
    if isinstance(check, Moments):
        return context.dates.apply(vr, part)
    if isinstance(check, Age):
        return part if _AGE.fullmatch(part) and not (part[3] == "Y" and int(part[:3]) > _OLDEST) else None
    if isinstance(check, Phrase):
        return part if _PHRASE.fullmatch(part) and not _names(part, context.tokens) else None
    if isinstance(check, Place):
        return part if _PLACE.fullmatch(part) and not _names(part, context.persons) else None
    stay = [word for word in _TOKEN.findall(part) if word.upper() in check.words and word.upper() not in context.tokens]
    return " ".join(stay)[:_LONGEST_PHRASE] or None


def _names(part: str, tokens: frozenset[str]) -> bool:
    """Return whether a phrase has a token as a word, or a longer one anywhere, across spaces too."""
    words = _TOKEN.findall(part.upper())
    joined = "".join(words)
    return not tokens.isdisjoint(words) or any(len(token) >= _TELLING and token in joined for token in tokens)


def _binary(vr: str, check: Numbers, value: Value) -> Kept | None:
    code = _BINARY[vr]
    count, rest = divmod(len(value.data), struct.calcsize("<" + code))
    if rest or not check.least <= count <= check.most:
        return None
    numbers = struct.unpack(f"{'<' if value.little else '>'}{count}{code}", value.data)
    if not all(
        _plausible(number, check) and (vr != "FL" or not 0 < abs(number) < _SMALLEST_SINGLE) for number in numbers
    ):
        return None
    data = value.data if value.little else struct.pack(f"<{count}{code}", *numbers)
    return Kept(data, numbers) if len(data) <= _LONGEST else None


def _decimal(vr: str, check: Numbers, data: bytes) -> Kept | None:
    parts = [part.strip(b" \0") for part in data.split(b"\\")]
    if not check.least <= len(parts) <= check.most or len(data) > _LONGEST:
        return None
    pattern, kind = (_INTEGER, int) if vr == "IS" else (_DECIMAL, float)
    if not all(len(part) <= _DECIMAL_BYTES and pattern.fullmatch(part) for part in parts):
        return None
    numbers = tuple(kind(part) for part in parts)
    return Kept(b"\\".join(parts), numbers) if all(_plausible(number, check) for number in numbers) else None


def _plausible(number: float, check: Numbers) -> bool:
    return check.low <= number <= check.high and (number == 0 or (math.isfinite(number) and abs(number) >= _SMALLEST))
