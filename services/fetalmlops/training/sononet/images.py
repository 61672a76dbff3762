"""The real images that the bundle is fitted on, normalised as serving normalises them."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.errors import ObjectMissingError
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline
from fetalmlops.domain.imaging.pipelines.screens import open_screen
from fetalmlops.domain.learning.duplicates import pixel_digest
from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.models.manifest import PipelineEntry
from fetalmlops.platform.learning.datasets import as_grey, read_screen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PIPELINE", "Image", "digest", "normalised", "read_brain_prior", "read_fetal_planes", "read_hc18"]

_PIPELINE = find_pipeline(PLAIN)
PIPELINE = PipelineEntry(name=PLAIN, digest=_PIPELINE.digest)
"""The normalisation of all images, as the bundle's manifest names it."""

_TABLE: Final = "FETAL_PLANES_DB_data.csv"
_PLANES: Final = {
    "Other": Plane.OTHER,
    "Fetal brain": Plane.BRAIN,
    "Fetal thorax": Plane.THORAX,
    "Fetal abdomen": Plane.ABDOMEN,
    "Fetal femur": Plane.FEMUR,
    "Maternal cervix": Plane.CERVIX,
}
_BRAIN_PLANES: Final = {
    "Trans-thalamic": BrainPlane.TRANS_THALAMIC,
    "Trans-cerebellum": BrainPlane.TRANS_CEREBELLUM,
    "Trans-ventricular": BrainPlane.TRANS_VENTRICULAR,
    "Other": BrainPlane.OTHER,
}


@dataclass(frozen=True, eq=False)
class Image:
    """One labelled image.

    Parameters
    ----------
    frame
        Normalised, ``uint8`` of [rows, columns].
    patient
        Number of the patient within the data set, with the set's name before it.
    plane, brain_plane
        Indices of the labels; `NO_LABEL` where the sub-plane is not known.
    machine
        Make of the scanner as the data set tells it; empty if it does not.
    size
        Rows and columns of the screen.
    pixels
        Digest of the screen's grey pixels, as a data set's manifest has it.
    """

    frame: NDArray[np.uint8]
    patient: str
    plane: int
    brain_plane: int
    machine: str
    size: tuple[int, int]
    pixels: str = ""


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a screen, [rows, columns], brought through the normaliser."""
    return np.asarray(_PIPELINE.run_array(pixels).frames[0], np.uint8)


def read_fetal_planes(folder: Path) -> list[Image]:
    """Read those images of FETAL_PLANES_DB that are there, in the table's order; an image seen before is left out.

    Parameters
    ----------
    folder
        Holds the table ``FETAL_PLANES_DB_data.csv`` and the images in ``Images`` or ``images``.

    Raises
    ------
    ObjectMissingError
        If the table or every image is missing.
    """
    places = [folder / name for name in ("Images", "images")]
    images: dict[bytes, Image] = {}
    for row in _table(folder):
        path = next((place for each in places if (place := each / f"{row['Image_name']}.png").is_file()), None)
        if path is not None:
            brain = _BRAIN_PLANES.get(row["Brain_plane"]) if row["Plane"] == "Fetal brain" else None
            image = _read(path, f"fetal-planes {row['Patient_num']}", _PLANES[row["Plane"]], brain, row["US_Machine"])
            images.setdefault(hashlib.sha256(image.frame.tobytes()).digest(), image)
    if not images:
        msg = (
            f"Expected PNG images of FETAL_PLANES_DB in a folder images beside {_TABLE}, got none; unpack the data set"
        )
        raise ObjectMissingError(msg)
    return list(images.values())


def read_brain_prior(folder: Path) -> NDArray[np.float64]:
    """Return the shares of the brain sub-planes among the training rows of FETAL_PLANES_DB's table, [brain planes]."""
    names = [_BRAIN_PLANES.get(row["Brain_plane"]) for row in _table(folder) if row["Train"] == "1"]
    brains = [row["Plane"] == "Fetal brain" for row in _table(folder) if row["Train"] == "1"]
    counts = [sum(brain and name is each for name, brain in zip(names, brains, strict=True)) for each in BRAIN_PLANES]
    return np.array(counts, np.float64) / sum(counts)


def read_hc18(folder: Path) -> tuple[list[Image], list[Image]]:
    """Read brain images of HC18 in the order of their names, its patients taking turns: to learn from, and to hold out.

    Parameters
    ----------
    folder
        Holds the images, ``NNN_HC.png``; annotations are left aside.

    Raises
    ------
    ObjectMissingError
        If there are no images.
    """
    paths = sorted(path for path in folder.glob("*HC.png") if "Annotation" not in path.name)
    if not paths:
        msg = "Expected images NNN_HC.png of HC18 in the folder of --hc18, got none; unpack the data set"
        raise ObjectMissingError(msg)
    patients = sorted({path.name[:3] for path in paths})
    images = [_read(path, f"hc18 {path.name[:3]}", Plane.BRAIN, None, "") for path in paths]
    learnt = {f"hc18 {patient}" for patient in patients[::2]}
    return (
        [image for image in images if image.patient in learnt],
        [image for image in images if image.patient not in learnt],
    )


def digest(images: Iterable[Image]) -> str:
    """Return the SHA-256 over frames and labels in order."""
    hasher = hashlib.sha256()
    for image in images:
        hasher.update(np.array([*image.frame.shape, image.plane, image.brain_plane], np.int64).tobytes())
        hasher.update(image.frame.tobytes())
    return hasher.hexdigest()


def _table(folder: Path) -> list[dict[str, str]]:
    try:
        text = (folder / _TABLE).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        msg = f"Expected {_TABLE} in the folder of --images, got none; unpack FETAL_PLANES_DB there"
        raise ObjectMissingError(msg) from None
    rows = csv.DictReader(text.splitlines(), delimiter=";")
    # The original's last header, and the values below it, end in blanks.
    return [{name.strip(): value.strip() for name, value in row.items() if name} for row in rows]


def _read(path: Path, patient: str, plane: Plane, brain: BrainPlane | None, machine: str) -> Image:
    data = path.read_bytes()
    screen = open_screen(data)
    return Image(
        frame=_PIPELINE.run(screen).frames[0],
        patient=patient,
        plane=PLANES.index(plane),
        brain_plane=NO_LABEL if brain is None else BRAIN_PLANES.index(brain),
        machine=machine,
        size=screen.shape,
        pixels=pixel_digest(as_grey(read_screen(data, path.name))),
    )
