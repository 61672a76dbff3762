"""A person's release: which pixels of one refused image are free of identifiers, as a person has said for the record.

It holds for one image only: for every image of a scanner a profile of the device is the way.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Self

import msgspec
from msgspec import Meta, Struct

from fetalmlops.domain.contracts.events import EventId, Pseudonym
from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fetalmlops.domain.deid.pixels.regions import Rectangle

__all__ = ["LEAST_SIDE", "MOST_AREAS", "Release", "cut_out"]

LEAST_SIDE = 16
"""Shortest side of a rectangle that is kept, in pixels."""

MOST_AREAS = 64
"""Most rectangles of one release that are kept, and most that are blanked."""

_Size = Annotated[int, Meta(ge=1, le=65535)]
_Place = Annotated[int, Meta(ge=0, le=65535)]
_Areas = Annotated[tuple[tuple[_Place, _Place, _Place, _Place], ...], Meta(max_length=MOST_AREAS)]


class Release(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person has said of the pixels of one image.

    Parameters
    ----------
    project, patient
        Whose image it is, by pseudonym.
    content_id, entry_id
        The content, and the quarantine entry that the person saw.
    rows, columns
        Size of the image in pixels.
    keep
        Areas that show no identifier, as x0, y0, x1, y1 in pixels, upper bounds exclusive: exactly these are kept. Empty: what
        the ladder proves without the person.
    mask
        Areas to blank within what is kept, written as `keep`.
    account
        Who says so.
    reason
        Why; it names no patient.

    Raises
    ------
    ContractError
        If an area is empty, too small or not within the image, or nothing is stated or left.
    """

    project: str
    patient: Pseudonym
    content_id: Pseudonym
    entry_id: EventId
    rows: _Size
    columns: _Size
    keep: _Areas = ()
    mask: _Areas = ()
    account: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]
    reason: Annotated[str, Meta(min_length=1, max_length=500)]

    def __post_init__(self) -> None:
        if not (self.keep or self.mask):
            _refuse("areas to keep or to blank", "none", "state them with --keep and --mask")
        for areas, least in ((self.keep, LEAST_SIDE), (self.mask, 1)):
            for x0, y0, x1, y1 in areas:
                if not (0 <= x0 < x1 <= self.columns and 0 <= y0 < y1 <= self.rows) or min(x1 - x0, y1 - y0) < least:
                    _refuse(
                        f"areas of at least {least} pixels a side within {self.columns} x {self.rows} pixels",
                        str([x0, y0, x1, y1]),
                        "state x0, y0, x1, y1 from the upper left corner, with upper bounds exclusive",
                    )
        if self.keep and not cut_out(self.keep, self.mask):
            _refuse("areas of which something is left", "areas that are blanked wholly", "keep more or blank less")

    @property
    def data(self) -> bytes:
        """The record's bytes: the same release has the same ones."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> str:
        """SHA-256 of the record."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """What a replay calls it: the entry's id and the digest."""
        return f"{self.entry_id}/{self.digest}"

    @classmethod
    def state(cls, **values: Any) -> Self:
        """Make a release of what a person stated, all of it checked.

        Raises
        ------
        ContractError
            If it is not valid; the message says what is expected.
        """
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            msg = f"{error}; state the release anew"
            raise ContractError(msg, reason="release-invalid") from None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a record.

        Raises
        ------
        ContractError
            If it is none. The message holds no part of it.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError):
            _refuse("the record of a release", "other bytes", "release the entry again")

    def areas(self, proven: Sequence[Rectangle]) -> tuple[Rectangle, ...]:
        """Return what is kept of an image.

        Parameters
        ----------
        proven
            What is proven without the person; counts only where the release keeps nothing itself.
        """
        return cut_out(self.keep or proven, self.mask)


def cut_out(rectangles: Iterable[Rectangle], boxes: Iterable[Rectangle]) -> tuple[Rectangle, ...]:
    """Return rectangles that cover what others cover, but nothing of some boxes.

    Examples
    --------
    >>> cut_out([(0, 0, 9, 9)], [(3, 0, 6, 4)])
    ((0, 4, 9, 9), (0, 0, 3, 4), (6, 0, 9, 4))
    >>> cut_out([(0, 0, 9, 9)], [(0, 0, 9, 9)])
    ()
    """
    left = list(rectangles)
    for box in boxes:
        left = [piece for rectangle in left for piece in _pieces(rectangle, box)]
    return tuple(left)


def _pieces(rectangle: Rectangle, box: Rectangle) -> list[Rectangle]:
    """Return a rectangle without a box: above it, below it, and beside it."""
    x0, y0, x1, y1 = rectangle
    a, b, c, d = max(x0, box[0]), max(y0, box[1]), min(x1, box[2]), min(y1, box[3])
    if a >= c or b >= d:
        return [rectangle]
    pieces = [(x0, y0, x1, b), (x0, d, x1, y1), (x0, b, a, d), (c, b, x1, d)]
    return [piece for piece in pieces if piece[0] < piece[2] and piece[1] < piece[3]]


def _refuse(expected: str, got: str, remedy: str) -> NoReturn:
    msg = f"Expected {expected}, got {got}; {remedy}"
    raise ContractError(msg, reason="release-invalid")
