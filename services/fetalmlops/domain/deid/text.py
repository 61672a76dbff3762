"""Text in the pixels that are kept: what is found there must be a measurement, or the image is not proven.

A text is allowed by the words of `fetalmlops.domain.deid.vocabulary` and by numbers with units only: what cannot be read is a
finding.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import msgspec
import numpy as np

from fetalmlops.domain.deid.faults import Refusal, refuse
from fetalmlops.domain.deid.vocabulary import MARKS, UNITS, WORDS
from fetalmlops.domain.imaging.codecs import Decoded
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.grey import to_grey
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.deid.regions import Rectangle
    from fetalmlops.domain.imaging.decoding import DecodedFrame
    from fetalmlops.domain.imaging.grey import Palette
    from fetalmlops.domain.imaging.source import FrameSource

__all__ = [
    "ALLOWED",
    "AllowedText",
    "FoundText",
    "TextCheck",
    "TextDetector",
    "TextEvidence",
    "check_text",
    "projections",
]

_BYTE = 8
_MOST_PLACES = 5


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
    """

    words: frozenset[str]
    units: frozenset[str]
    least_confidence: float = 0.5
    least_letters: int = 3
    marks: frozenset[str] = MARKS
    most_lone: int = 2

    def findings(self, found: Sequence[FoundText]) -> list[FoundText]:
        """Return what must not stay of all that was found in one picture."""
        lone = [item for item in found if len(item.text.strip()) == 1 and not self.allows(item)]
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
        if self.marks.issuperset(letters.upper()):
            return True
        if found.confidence < self.least_confidence and len(letters) < self.least_letters:
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
        ]
        return hashlib.sha256(msgspec.json.encode(data)).hexdigest()

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


_SEPARATORS = re.compile(r"[\s:;,=()\[\]|]+")
_NUMBER = re.compile(r"[+\-~<>]?(?:\d{1,3}|\d{1,3}\.\d{1,2}|\d{4}(?=[A-Z]))(?P<unit>[A-Z%°²/][A-Z0-9%°²/]{0,5})?")
_TENTHS = re.compile(r"\d{1,3}\.\d")
_PROBE = re.compile(r"[A-Z]{1,2}\d{1,2}-\d{1,2}")
_JOINED = re.compile(r"(?:\d{0,2}\.?)?(?P<word>[A-Z]{1,8})(?:(?:\d{1,3}|\d{1,2}\.\d{1,2})(?P<unit>[A-Z%°]{0,4}))?")


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


class TextEvidence(NamedTuple):
    """What a check that found nothing wrong did: `passes` of the detector, and texts that it `allowed`."""

    passes: int
    allowed: int


def check_text(
    check: TextCheck, source: FrameSource, rectangles: tuple[Rectangle, ...], palette: Palette | None = None
) -> TextEvidence:
    """Look for text within the rectangles of all frames: in the darkest and in the brightest that each pixel ever is.

    What stands still, as burned-in text does, stands out of both; a clip takes two passes, one frame takes one.

    Parameters
    ----------
    check
        Who looks, and what may be found.
    source
        The stored frames.
    rectangles
        Where to look.
    palette
        The palette, for PALETTE COLOR.

    Raises
    ------
    PermanentError
        If there is text that is not allowed (reason ``text-found``; the message says where, never what), or a frame cannot be
        decoded.
    """
    x0, y0 = min(box[0] for box in rectangles), min(box[1] for box in rectangles)
    found = [check.detector.find(picture) for picture in projections(iter_frames(source), rectangles, palette)]
    wrong = [item.box for picture in found for item in check.allowed.findings(picture)]
    if wrong:
        places = ", ".join(str([a + x0, b + y0, c + x0, d + y0]) for a, b, c, d in wrong[:_MOST_PLACES])
        refuse(
            f"Expected no text but measurements in the pixels that are kept, got other text at {places} (x0, y0, x1, y1); "
            "keep a smaller area by a profile of the device, or have the scanner burn nothing in",
            Refusal.TEXT_FOUND,
        )
    return TextEvidence(1 if source.layout.frames == 1 else 2, sum(map(len, found)))


def projections(
    frames: Iterable[DecodedFrame], rectangles: tuple[Rectangle, ...], palette: Palette | None = None
) -> list[NDArray[np.uint8]]:
    """Return the temporal minimum and maximum of frames, cut to the bounds of the rectangles and black between them.

    One frame gives one picture. Grey [rows, columns], or RGB [rows, columns, 3]; ``uint8``.
    """
    low: NDArray[np.uint8] | None = None
    high: NDArray[np.uint8] | None = None
    many = False
    for frame in frames:
        picture = _cut(_displayed(frame, palette), rectangles)
        many = low is not None
        low = picture if low is None else np.minimum(low, picture)
        high = picture if high is None else np.maximum(high, picture)
    if low is None or high is None:
        return []
    return [low, high] if many else [low]


def _displayed(frame: DecodedFrame, palette: Palette | None) -> NDArray[np.uint8]:
    if frame.pixels.dtype == np.uint8 and frame.photometric is Photometric.RGB:
        return np.asarray(frame.pixels)
    if frame.pixels.dtype == np.uint8 and frame.photometric is Photometric.YBR_FULL:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame.pixels[..., (0, 2, 1)]), cv2.COLOR_YCrCb2RGB))
    grey = to_grey(Decoded(frame.pixels, frame.photometric, frame.bits), palette)
    if frame.bits != _BYTE:  # deep samples seldom use their whole range
        grey = np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX))
    return grey


def _cut(picture: NDArray[np.uint8], rectangles: tuple[Rectangle, ...]) -> NDArray[np.uint8]:
    x0, y0 = min(box[0] for box in rectangles), min(box[1] for box in rectangles)
    x1, y1 = max(box[2] for box in rectangles), max(box[3] for box in rectangles)
    cut = np.zeros((y1 - y0, x1 - x0, *picture.shape[2:]), np.uint8)
    for a, b, c, d in rectangles:
        cut[b - y0 : d - y0, a - x0 : c - x0] = picture[b:d, a:c]
    return cut
