"""A folder a class: ``brain/a.png``, ``brain/trans-thalamic/b.png``, or below a folder a split, ``test/femur/c.png``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import PLANES, Plane
from fetalmlops.domain.learning.layouts.listing import (
    Listed,
    Listing,
    find_brain_plane,
    find_plane,
    read_table,
    refuse,
)
from fetalmlops.domain.learning.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["LICENCE", "NAME", "patients_from_pattern", "patients_from_table", "read_folders"]

NAME: Final = "folders"
"""Name of the layout."""

LICENCE: Final = "private"
"""What is assumed where nobody says otherwise."""

_SPLITS = tuple(split for split in Split if split is not Split.UNKNOWN)


def read_folders(paths: Iterable[str], describe: Callable[[str], Mapping[str, str]] | None) -> Listing:
    """List the images: folders are planes, below ``brain`` perhaps sub-planes, above the planes perhaps splits.

    Parameters
    ----------
    paths
        Paths of the images within the data's folder.
    describe
        Gives the patient of a path, and where they are known scanner, operator and site; `patients_from_table` or
        `patients_from_pattern`. None is refused: images of one patient would land in several splits.

    Raises
    ------
    ContractError
        If a folder is no plane, or an image has no patient.
    """
    if describe is None:
        refuse(
            "Expected to be told the patient of each image, got nothing: images of one patient must not land in two "
            r"splits; give --patients TABLE.csv (path,patient), or --patient-pattern such as 'case(\d+)'"
        )
    images = [_list(path, describe(path)) for path in sorted(paths)]
    if not images:
        refuse(f"Expected images in folders named {', '.join(PLANES)}, got none; check the folder")
    return Listing(NAME, images)


def patients_from_table(table: str) -> Callable[[str], Mapping[str, str]]:
    """Return what gives an image's patient by a table with the columns ``path`` and ``patient``.

    Raises
    ------
    ContractError
        If it has no such columns; later, if an image is not in it.
    """
    rows = {row["path"]: row for row in read_table(table, ("path", "patient"), "the table of patients")}

    def describe(path: str) -> Mapping[str, str]:
        row = rows.get(path)
        if row is None or not row["patient"]:
            refuse("Expected every image in the table of patients, got one without a row or a patient; add it")
        return row

    return describe


def patients_from_pattern(pattern: str) -> Callable[[str], Mapping[str, str]]:
    r"""Return what gives an image's patient by a regular expression with one group, searched in its path.

    Raises
    ------
    ContractError
        If it is no such expression; later, if a path does not match.

    Examples
    --------
    >>> patients_from_pattern(r"case(\d+)")("brain/case07_2.png")
    {'patient': '07'}
    """
    try:
        compiled = re.compile(pattern)
    except re.error:
        compiled = re.compile("")
    if compiled.groups != 1:
        refuse(
            r"Expected a regular expression with one group for the patient, got another; write one such as 'case(\d+)'"
        )

    def describe(path: str) -> Mapping[str, str]:
        match = compiled.search(path)
        if not match or not match[1]:
            refuse("Expected every path to match the expression for patients, got one that does not; widen it")
        return {"patient": match[1]}

    return describe


def _list(path: str, row: Mapping[str, str]) -> Listed:
    folders = path.split("/")[:-1]
    split = Split.UNKNOWN
    if folders and folders[0] in _SPLITS:
        split = Split(folders.pop(0))
    if not folders or len(folders) > 1 + (folders[0] == Plane.BRAIN):
        refuse("Expected images as PLANE/NAME or brain/SUB-PLANE/NAME, got one that lies elsewhere; move it")
    return Listed(
        path=path,
        patient=row["patient"],
        split=split,
        plane=find_plane(folders[0]),
        brain_plane=find_brain_plane(folders[1]) if len(folders) > 1 else None,
        scanner=row.get("scanner", ""),
        operator=row.get("operator", ""),
        site=row.get("site", ""),
    )
