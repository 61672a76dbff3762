"""What the layouts need of the disk: names, tables and headers of a data set's folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import pydicom
from pydicom.errors import InvalidDicomError

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts import fetal_planes, folders, hc18, instances
from fetalmlops.platform.dicom.decoding import configure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fetalmlops.domain.learning.layouts.listing import Listing

__all__ = ["LAYOUTS", "Layout", "LayoutOptions"]

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_TAGS = ["SOPInstanceUID", "PatientID", "PatientIdentityRemoved", "Manufacturer", "ManufacturerModelName",
    "NumberOfFrames", "Rows"]  # fmt: skip


@dataclass(frozen=True)
class LayoutOptions:
    """What a person may say of a data set besides its folder.

    Parameters
    ----------
    partial
        Whether absent images are left out.
    patients
        Table of patients.
    patient_pattern
        Regular expression for patients.
    labels
        Table of labels, or labelled results.
    site
        Where the data comes from.
    """

    partial: bool = False
    patients: Path | None = None
    patient_pattern: str = ""
    labels: Path | None = None
    site: str = ""


@dataclass(frozen=True)
class Layout:
    """How to read a layout.

    Parameters
    ----------
    read
        Lists the images of a folder.
    licence, citation
        Those of the data set that gave the layout its name.
    """

    read: Callable[[Path, LayoutOptions], Listing]
    licence: str
    citation: str = ""


def _fetal_planes(root: Path, options: LayoutOptions) -> Listing:
    folder = root / fetal_planes.IMAGES
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return fetal_planes.read_fetal_planes(_text(root / fetal_planes.TABLE), present, partial=options.partial)


def _hc18(root: Path, options: LayoutOptions) -> Listing:  # noqa: ARG001 - as all layouts
    return hc18.read_hc18(_pictures(root))


def _folders(root: Path, options: LayoutOptions) -> Listing:
    describe = None
    if options.patients:
        describe = folders.patients_from_table(_text(options.patients))
    elif options.patient_pattern:
        describe = folders.patients_from_pattern(options.patient_pattern)
    return folders.read_folders(_pictures(root), describe)


def _dicom(root: Path, options: LayoutOptions) -> Listing:
    return instances.read_dicom(_headers(root), _text(options.labels) if options.labels else None, options.site)


def _results(root: Path, options: LayoutOptions) -> Listing:
    if options.labels is None:
        msg = "Expected labelled results, got none; give them as JSON lines with --labels"
        raise ContractError(msg, reason="data-layout")
    return instances.read_results(_headers(root), _text(options.labels))


LAYOUTS: Final[Mapping[str, Layout]] = MappingProxyType(
    {
        fetal_planes.NAME: Layout(_fetal_planes, fetal_planes.LICENCE, fetal_planes.CITATION),
        hc18.NAME: Layout(_hc18, hc18.LICENCE, hc18.CITATION),
        folders.NAME: Layout(_folders, folders.LICENCE),
        instances.DICOM: Layout(_dicom, instances.LICENCE),
        instances.RESULTS: Layout(_results, instances.LICENCE),
    }
)
"""The layouts by name."""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected {path.name} to be a readable UTF-8 file, got {type(error).__name__}; check the folder"
        raise ContractError(msg, reason="data-layout") from None


def _pictures(root: Path) -> list[str]:
    """Return the paths of all pictures below a folder, relative to it; hidden ones do not count."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in _PICTURES)
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _headers(root: Path) -> list[instances.CleanFile]:
    configure()
    return [header for path in sorted(root.rglob("*")) if path.is_file() and (header := _header(root, path))]


def _header(root: Path, path: Path) -> instances.CleanFile | None:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        frames = int(header.get("NumberOfFrames") or 1) if header.get("Rows") else 0
    except (InvalidDicomError, OSError, ValueError, TypeError):
        return None
    names = (header.get("Manufacturer"), header.get("ManufacturerModelName"))
    return instances.CleanFile(
        path=path.relative_to(root).as_posix(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        instance=str(header.get("SOPInstanceUID", "")),
        patient=str(header.get("PatientID") or ""),
        deidentified=header.get("PatientIdentityRemoved") == "YES",
        scanner=" ".join(str(name) for name in names if name)[:64],
        frames=frames,
    )
