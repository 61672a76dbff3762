"""Text in the pixels that are kept: what is found there must be a measurement, or the image is not proven.

A text is allowed by the words of `fetalmlops.domain.deid.pixels.vocabulary` and by numbers with units only: what cannot be read
is a finding.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from fetalmlops.domain.deid.pixels.vocabulary import MARKS, UNITS, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ALLOWED", "AllowedText", "FoundText", "TextCheck", "TextDetector"]


class FoundText(NamedTuple):
    """Text in a frame.

    Parameters
    ----------
    box
        x0, y0, x1, y1 in pixels, upper bounds exclusive.
    text
        What it reads.
    confidence
        How sure that is, 0 to 1.
    """

    box: tuple[int, int, int, int]
    text: str
    confidence: float


class TextDetector(Protocol):
    """Finds and reads text."""

    def find(self, frame: NDArray[np.uint8]) -> list[FoundText]:
        """Return all text of a frame, [rows, columns] or [rows, columns, 3] in RGB."""
        ...


@dataclass(frozen=True)
class AllowedText:
    """What text may stand in a picture.

    Parameters
    ----------
    words
        Words of measurements and annotations, in upper case.
    units
        Units of numbers, in upper case.
    least_confidence
        What is read with less confidence and has fewer than `least_letters` characters is taken for texture, not for text.
    least_letters
        See there.
    marks
        What the marks of calipers are read as.
    most_lone
        Single characters other than marks that a picture may have: texture reads as one now and then, and one tells nothing.
    most_narrow, most_tall
        How many times taller than wide letters may be, and how tall in pixels. What is shaped otherwise and read with less than
        `shape_confidence` is texture: so is it read now and then, as a word in a square.
    shape_confidence
        See there.
    """

    words: frozenset[str]
    units: frozenset[str]
    least_confidence: float = 0.5
    least_letters: int = 3
    marks: frozenset[str] = MARKS
    most_lone: int = 2
    most_narrow: float = 4.5
    most_tall: int = 100
    shape_confidence: float = 0.8

    def findings(self, found: Sequence[FoundText]) -> list[FoundText]:
        """Return what must not stay of all that was found in one picture."""
        lone = [item for item in found if len(self._told(item.text)) <= 1 and not self.allows(item)]
        few = lone if len(lone) <= self.most_lone else []
        return [item for item in found if item not in few and not self.allows(item)]

    def allows(self, found: FoundText) -> bool:
        """Return whether a text may stay, whatever stands beside it.

        Examples
        --------
        >>> [ALLOWED.allows(FoundText((0, 0, 9, 9), text, 0.9)) for text in ("BPD 4.71 cm", "2: HC 18.0cm", "DOE 31.01.1990")]
        [True, True, False]
        """
        letters = "".join(found.text.split())
        if self.marks.issuperset(_told(letters)):
            return True
        if found.confidence < self.least_confidence and len(letters) < self.least_letters:
            return True
        if found.confidence < self.shape_confidence and not self._shaped_as_letters(found):
            return True
        parts = list(_parts(found.text))
        bare = sum(_is_bare(part) for part in parts)
        # A number beside a word measures it; numbers among themselves are a date or an id.
        return bare <= len(parts) - bare + 1 and all(self._allows_part(part) for part in parts)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides."""
        data = [
            *map(sorted, (self.words, self.units, self.marks)),
            *(self.least_confidence, self.least_letters, self.most_lone),
            *(self.most_narrow, self.most_tall, self.shape_confidence),
        ]
        return hashlib.sha256(msgspec.json.encode(data)).hexdigest()

    def _shaped_as_letters(self, found: FoundText) -> bool:
        x0, y0, x1, y1 = found.box
        along, tall = x1 - x0, y1 - y0
        if tall > _UPRIGHT * along:  # a line that runs up or down
            along, tall = tall, along
        return tall <= self.most_tall and tall * len(_told(found.text)) <= self.most_narrow * along

    def _told(self, text: str) -> str:
        """Return what a text may tell: no punctuation, and nothing of the caliper marks that it stands between."""
        told = _told(text)
        if len(told) > 2 and {told[0], told[-1]} <= self.marks:
            return told.strip("".join(self.marks))
        return told

    def _allows_part(self, part: str) -> bool:
        if part in self.words or part in self.units or _PROBE.fullmatch(part):
            return True
        number = _NUMBER.fullmatch(part)
        if number is not None:
            return not number["unit"] or number["unit"] in self.units
        # Spaces get lost in reading: a word, a number and a unit in one.
        joined = _JOINED.fullmatch(part)
        return (
            joined is not None and joined["word"] in self.words and (not joined["unit"] or joined["unit"] in self.units)
        )


_UPRIGHT = 1.5
_SEPARATORS = re.compile(r"[\s:;,=()\[\]|]+")
_NUMBER = re.compile(r"[+\-~<>]?(?:\d{1,3}|\d{1,3}\.\d{1,2}|\d{4}(?=[A-Z]))(?P<unit>[A-Z%°²/][A-Z0-9%°²/]{0,5})?")
_TENTHS = re.compile(r"\d{1,3}\.\d")
_PROBE = re.compile(r"[A-Z]{1,2}\d{1,2}-\d{1,2}")
_JOINED = re.compile(r"(?:\d{0,2}\.?)?(?P<word>[A-Z]{1,8})(?:(?:\d{1,3}|\d{1,2}\.\d{1,2})(?P<unit>[A-Z%°]{0,4}))?")


def _told(text: str) -> str:
    return "".join(letter for letter in text.upper() if letter.isalnum())


def _is_bare(part: str) -> bool:
    number = _NUMBER.fullmatch(part)
    return number is not None and not number["unit"] and not _TENTHS.fullmatch(part)


def _parts(text: str) -> Iterator[str]:
    for part in _SEPARATORS.split(text.upper()):
        plain = part.strip(".+-*_~'\"#/⁻")
        if plain:
            yield plain


ALLOWED = AllowedText(words=WORDS, units=UNITS)
"""Measurements, machine settings and anatomy. No dates: not even an expected date of delivery."""


@dataclass(frozen=True)
class TextCheck:
    """Who looks for text, and what may be found."""

    detector: TextDetector
    allowed: AllowedText = ALLOWED
