"""The private safe list: private attributes that a site knows to be safe, each by its creator and element, with a check.

An element's block differs from file to file (PS3.5 section 7.8.1), so an attribute is never known by its number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.rules.checks import Numbers, Words
from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from fetalmlops.domain.deid.rules.checks import Check

__all__ = ["BLOCKS", "CREATOR_BYTES", "SafePrivate"]

BLOCKS = range(0x10, 0x100)
"""Numbers of the blocks that a creator may reserve in a private group."""

CREATOR_BYTES = 64
"""Longest name of a creator."""

_WORD_VRS, _NUMBER_VRS = ("CS", "LO", "SH"), ("DS", "IS", "US", "SS", "UL", "SL", "FL", "FD")
_LEAST_GROUP, _GROUPS, _LARGEST_ELEMENT, _MOST = 9, 0xFFFF, 0xFF, 4096


@dataclass(frozen=True, kw_only=True)
class SafePrivate:
    """One private attribute that is kept where its value passes.

    Parameters
    ----------
    creator
        Name of the private creator, as in the file.
    group
        Its odd group.
    element
        Its number within the creator's block: the last two digits of its tag.
    vr
        Its value representation: of words or of numbers.
    words
        The words that it may have.
    numbers
        The lowest and the highest number that it may have.
    most
        The most values that it may have.

    Raises
    ------
    SettingsError
        If it names no private attribute, or has no check that fits its representation.

    Examples
    --------
    >>> SafePrivate(creator="ACME", group=0x0019, element=0x01, vr="DS", numbers=(0, 100)).check
    Numbers(low=0, high=100, least=1, most=1)
    """

    creator: str
    group: int
    element: int
    vr: str
    words: tuple[str, ...] = ()
    numbers: tuple[float, float] | None = None
    most: int = 1

    def __post_init__(self) -> None:
        name = self.creator
        if not name.isascii() or not name.isprintable() or "\\" in name or not 0 < len(name.strip()) <= CREATOR_BYTES:
            _refuse("a creator of 1 to 64 ASCII characters", "another", "write it as the file does")
        if self.group % 2 == 0 or not _LEAST_GROUP <= self.group < _GROUPS or not 0 <= self.element <= _LARGEST_ELEMENT:
            _refuse("an odd group above 0008 and an element of two digits", "others", "leave the block's number out")
        if self.vr not in (*_WORD_VRS, *_NUMBER_VRS) or not 1 <= self.most <= _MOST:
            _refuse(f"one of {', '.join((*_WORD_VRS, *_NUMBER_VRS))} and at most {_MOST} values", "others", "take one")
        if bool(self.words) is not (self.vr in _WORD_VRS) or (self.numbers is None) is not bool(self.words):
            _refuse("words for a text and numbers for a number", "another check", "give the one that fits the vr")

    @property
    def check(self) -> Check:
        """What a value must look like."""
        if self.numbers is None:
            return Words(self.words, self.most)
        return Numbers(*self.numbers, most=self.most)

    @property
    def key(self) -> tuple[int, str, int]:
        """What it is known by: group, creator and element."""
        return self.group, self.creator.strip(), self.element


def _refuse(expected: str, got: str, remedy: str) -> None:
    msg = f"Expected a private attribute with {expected}, got {got}; {remedy}"
    raise SettingsError(msg)
