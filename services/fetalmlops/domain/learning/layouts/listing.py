"""What a layout says of a data set, before any image is opened."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Listed", "Listing", "find_brain_plane", "find_plane", "leave_out", "read_table", "refuse"]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One image of a listing; what it holds means as in `fetalmlops.domain.learning.manifest.ImageEntry`.

    ``split`` is ``unknown`` where the layout does not say what the image is for.
    """

    path: str
    patient: str
    split: Split = Split.UNKNOWN
    plane: Plane | None = None
    brain_plane: BrainPlane | None = None
    scanner: str = ""
    operator: str = ""
    site: str = ""
    frame: int = 0


@dataclass(frozen=True)
class Listing:
    """A data set's images, in the order of the manifest.

    Parameters
    ----------
    layout
        Name of the layout.
    images
        The images.
    excluded
        How many were left out, by reason.
    """

    layout: str
    images: Sequence[Listed]
    excluded: Mapping[str, int] = field(default_factory=dict)


def leave_out(listing: Listing, paths: Iterable[str]) -> Listing:
    """Return a listing without the images of these paths, and count them; blank ones and comments (#) do not count.

    Raises
    ------
    ContractError
        If a path is not in the listing: a list of another data set, or a misspelt path, must not pass for cleaning.
    """
    wanted = {path.strip() for path in paths if path.strip() and not path.startswith("#")}
    unknown = wanted - {image.path for image in listing.images}
    if unknown:
        refuse(f"Expected paths of this data set to leave out, got {len(unknown)} of others; mend the list")
    images = [image for image in listing.images if image.path not in wanted]
    if not images:
        refuse("Expected images that are not left out, got none; shorten the list")
    count = len(listing.images) - len(images)
    return Listing(listing.layout, images, {**listing.excluded, **({"by the list": count} if count else {})})


def refuse(message: str) -> NoReturn:
    """Refuse a data set."""
    raise ContractError(message, reason="data-layout")


def find_plane(word: str) -> Plane:
    """Return the plane of a word.

    Raises
    ------
    ContractError
        If there is none.
    """
    if word not in PLANES:
        refuse(f"Expected a plane among {', '.join(PLANES)}, got another word; rename it")
    return Plane(word)


def find_brain_plane(word: str) -> BrainPlane:
    """Return the brain sub-plane of a word.

    Raises
    ------
    ContractError
        If there is none.
    """
    if word not in BRAIN_PLANES:
        refuse(f"Expected a brain sub-plane among {', '.join(BRAIN_PLANES)}, got another word; rename it")
    return BrainPlane(word)


def read_table(text: str, columns: Sequence[str], what: str, *, delimiter: str = ",") -> list[dict[str, str]]:
    r"""Read a CSV table with a header; blanks around names and values do not count.

    Parameters
    ----------
    text
        The table; a byte order mark may lead it.
    columns
        Columns that must be there.
    what
        What the table is, for errors.
    delimiter
        Between values.

    Raises
    ------
    ContractError
        If a column is missing, or a row has more or fewer values than the header.

    Examples
    --------
    >>> read_table("name;plane \na;brain \n", ["name", "plane"], "a table", delimiter=";")
    [{'name': 'a', 'plane': 'brain'}]
    """
    rows = [row for row in csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=delimiter) if row]
    header = [name.strip() for name in rows[0]] if rows else []
    missing = [column for column in columns if column not in header]
    if missing:
        refuse(f"Expected {what} to have the columns {', '.join(columns)}, got none named {', '.join(missing)}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            refuse(f"Expected {len(header)} values in each row of {what}, got {len(row)} in row {number}; mend the row")
    return [dict(zip(header, (value.strip() for value in row), strict=True)) for row in rows[1:]]
