"""Clean DICOM files: labelled by a table of SOP Instance UIDs, or by results of this system that people have labelled."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from fetalmlops.domain.contracts.events import Context, Lineage
from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.imaging.pipelines.sampling import Spread, sample
from fetalmlops.domain.learning.layouts.listing import (
    Listed,
    Listing,
    find_brain_plane,
    find_plane,
    read_table,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["DICOM", "LICENCE", "MOST_FRAMES", "RESULTS", "CleanFile", "read_dicom", "read_results"]

DICOM: Final = "dicom"
"""Name of the layout of clean files with a table of labels."""

RESULTS: Final = "results"
"""Name of the layout of clean files with labelled results."""

LICENCE: Final = "private"
"""What is assumed where nobody says otherwise."""

MOST_FRAMES: Final = 16
"""Most frames of one file, evenly spaced, where no table names any: neighbours in a cine are nearly the same image."""

_EMPTY = "Expected clean DICOM files with pixels, got none; check the folder"


@dataclass(frozen=True, kw_only=True)
class CleanFile:
    """What the header of a clean file says.

    Parameters
    ----------
    path
        Path within the data's folder.
    sha256
        Digest of the file.
    instance
        SOP Instance UID.
    patient
        Patient ID: the pseudonym; empty where there is none.
    deidentified
        Whether Patient Identity Removed (0012,0062) is YES.
    scanner
        Manufacturer and model.
    frames
        Number of Frames; 0 where there are no pixels.
    """

    path: str
    sha256: str
    instance: str
    patient: str
    deidentified: bool
    scanner: str
    frames: int


def read_dicom(files: Sequence[CleanFile], labels: str | None, site: str = "") -> Listing:
    """List the frames of clean files.

    Parameters
    ----------
    files
        What their headers say.
    labels
        Text of a CSV table with the columns ``instance`` (SOP Instance UID) and ``plane``, and perhaps ``brain_plane`` and
        ``frame`` (a DICOM frame number, from 1). With it, only what it names is listed; None to list every file without a
        label.
    site
        Where the files come from.

    Raises
    ------
    ContractError
        If a file is not de-identified or has no patient, or the table names what is not there.
    """
    usable = _usable(files)
    rows = [] if labels is None else read_table(labels, ("instance", "plane"), "the table of labels")
    unknown = {row["instance"] for row in rows} - {file.instance for file in usable}
    if unknown:
        refuse(
            f"Expected labels of instances in the folder, got {len(unknown)} of others; add their files, or remove them"
        )
    named: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        named[row["instance"]].append(row)
    images = [
        image
        for file in usable
        for row in (named[file.instance] if labels is not None else [{}])
        for image in _frames(file, row, site)
    ]
    skipped = sum(not named[file.instance] for file in usable) if labels is not None else 0
    if not images:
        refuse(_EMPTY)
    return Listing(DICOM, images, {"without a label": skipped} if skipped else {})


class _Label(Struct, frozen=True, kw_only=True):
    plane: Plane
    brain_plane: BrainPlane | None = None


class _LabelledResult(Struct, frozen=True, kw_only=True):
    context: Context
    lineage: Lineage
    best_frame: int | None = None
    label: _Label | None = None


def read_results(files: Sequence[CleanFile], lines: str) -> Listing:
    """List the frames that results were given for, with the labels that people gave them.

    Parameters
    ----------
    files
        What the headers of the clean files say; a result finds its file by the digest in its lineage.
    lines
        Results as ``fetalmlops results --json`` prints them, one a line, each with a ``label``: ``plane``, and perhaps
        ``brain_plane``. Later lines of an instance replace earlier ones.

    Raises
    ------
    ContractError
        If a line is no result, its label is unknown, or its file is not there.
    """
    by_digest = {file.sha256: file for file in _usable(files)}
    results: dict[str, _LabelledResult] = {}
    for number, line in enumerate(lines.splitlines(), 1):
        if line.strip():
            result = _read_result(line, number)
            results[result.context.instance] = result
    labelled = [result for result in results.values() if result.label is not None]
    absent = sum(result.lineage.deidentified_sha256 not in by_digest for result in labelled)
    if absent or not labelled:
        refuse(
            f"Expected labelled results with their clean files in the folder, got {len(labelled)} of which {absent} have "
            "no file; copy the files of the clean zone there before their lifetime ends"
        )
    images = [_from_result(by_digest[result.lineage.deidentified_sha256], result) for result in labelled]
    skipped = len(results) - len(labelled)
    return Listing(RESULTS, images, {"without a label": skipped} if skipped else {})


def _usable(files: Iterable[CleanFile]) -> list[CleanFile]:
    usable = sorted((file for file in files if file.frames), key=lambda file: file.path)
    exposed = sum(not file.deidentified for file in usable)
    if exposed:
        refuse(
            f"Expected de-identified files only (Patient Identity Removed, 0012,0062), got {exposed} that are not; "
            "de-identify them with fetalmlops deid"
        )
    nameless = sum(not file.patient for file in usable)
    if nameless:
        refuse(f"Expected a pseudonym as Patient ID of each file, got {nameless} files without; leave them out")
    if not usable:
        refuse(_EMPTY)
    return usable


def _frames(file: CleanFile, row: Mapping[str, str], site: str) -> list[Listed]:
    plane = find_plane(row["plane"]) if row else None
    brain = find_brain_plane(row["brain_plane"]) if row.get("brain_plane") else None
    wanted = (
        [_frame(row["frame"], file)]
        if row.get("frame")
        else [number - 1 for number in sample(file.frames, MOST_FRAMES, Spread.CENTRES)]
    )
    return [
        Listed(
            path=file.path,
            patient=file.patient,
            plane=plane,
            brain_plane=brain,
            scanner=file.scanner,
            site=site,
            frame=frame,
        )
        for frame in wanted
    ]


def _frame(word: str, file: CleanFile) -> int:
    number = int(word) if word.isdecimal() else 0
    if not 1 <= number <= file.frames:
        refuse(f"Expected a frame number from 1 to {file.frames} in the table of labels, got another; mend the row")
    return number - 1


def _read_result(line: str, number: int) -> _LabelledResult:
    try:
        result = msgspec.json.decode(line, type=_LabelledResult)
    except msgspec.MsgspecError as error:
        refuse(f"Expected results as fetalmlops results --json prints them, got another line {number}: {error}")
    label = result.label
    if label and (label.plane not in PLANES or label.brain_plane not in (None, *BRAIN_PLANES)):
        refuse(f"Expected a label of a known plane, got another in line {number}; mend it")
    return result


def _from_result(file: CleanFile, result: _LabelledResult) -> Listed:
    label = result.label
    return Listed(
        path=file.path,
        patient=result.context.patient,
        plane=label.plane if label else None,
        brain_plane=label.brain_plane if label else None,
        scanner=result.context.scanner,
        site=result.context.site,
        frame=min(max((result.best_frame or 1) - 1, 0), file.frames - 1),
    )
