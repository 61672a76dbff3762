"""A data set of phantoms in the layout, size and proportions of FETAL_PLANES_DB: which image shows what, and of whom.

The proportions are those of the published table: planes and brain sub-planes by split, patients by split, scanners with their
operators. Patients are independent draws: unlike real ones, images of one patient are no more alike than those of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.learning.layouts.fetal_planes import (
    BRAIN_LABELS,
    COLUMNS,
    IMAGES,
    NO_BRAIN,
    PLANE_LABELS,
    TABLE,
)
from fetalmlops.domain.learning.phantoms.images import PhantomImage, PhantomSet, apportion, check_size
from fetalmlops.domain.simulation import SCANNERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["PUBLISHED_IMAGES", "plan_published"]

_KINDS: Final = (
    # plane, brain sub-plane, images of training, images of test
    (Plane.OTHER, None, 2601, 1612),
    (Plane.ABDOMEN, None, 353, 358),
    (Plane.BRAIN, BrainPlane.TRANS_THALAMIC, 873, 765),
    (Plane.BRAIN, BrainPlane.TRANS_CEREBELLUM, 375, 339),
    (Plane.BRAIN, BrainPlane.TRANS_VENTRICULAR, 295, 302),
    (Plane.BRAIN, BrainPlane.OTHER, 77, 66),
    (Plane.CERVIX, None, 981, 645),
    (Plane.FEMUR, None, 516, 524),
    (Plane.THORAX, None, 1058, 660),
)
_PATIENTS: Final = (896, 896)
_SOURCES: Final = (
    # simulated scanner ("" for one of the rest), operator, images of a real scanner with this operator
    ("eta", "Op. 3", 3560),
    ("delta", "Op. 1", 2792),
    ("delta", "Op. 2", 2435),
    ("eta", "Other", 1554),
    ("beta", "Other", 1082),
    ("delta", "Other", 635),
    ("", "Other", 342),
)
_REST: Final = tuple(scanner.name for scanner in SCANNERS if scanner.name not in {name for name, *_ in _SOURCES})
_SPREAD = 0.4  # of images over patients: a third of the patients have one image, as in the published table
_LABELS: Final = {plane: label for label, plane in PLANE_LABELS.items()}
_BRAIN_LABELS: Final[Mapping[BrainPlane | None, str]] = {
    **{plane: label for label, plane in BRAIN_LABELS.items()},
    None: NO_BRAIN,
}

PUBLISHED_IMAGES: Final = sum(train + test for _, _, train, test in _KINDS)
"""Images of the published data set: 12,400."""


@dataclass(frozen=True)
class _Patient:
    train: bool
    kinds: Sequence[int]


def plan_published(images: int, seed: int) -> PhantomSet:
    """Plan a data set; equal arguments give equal plans.

    Parameters
    ----------
    images
        How many; proportions are kept as nearly as whole images and patients allow.
    seed
        Seed.

    Returns
    -------
    PhantomSet
        Images, and the table as the authors of FETAL_PLANES_DB write theirs: blanks behind the last column too.

    Raises
    ------
    ContractError
        If fewer than `LEAST_IMAGES` are wanted.
    """
    check_size(images)
    rng = np.random.default_rng((seed, images))
    counts = apportion([count for kind in _KINDS for count in kind[2:]], images).reshape(-1, 2)
    people = np.maximum(2, np.rint(np.array(_PATIENTS) * images / PUBLISHED_IMAGES)).astype(int)
    patients = [
        patient
        for split in range(2)
        for patient in _deal(np.repeat(np.arange(len(_KINDS)), counts[:, split]), int(people[split]), split == 0, rng)
    ]
    order = rng.permutation(len(patients)).tolist()
    patients = [patients[index] for index in order]
    sources = _assign_sources([len(patient.kinds) for patient in patients], images)
    made: list[PhantomImage] = []
    rows = [";".join(COLUMNS) + " "]
    for number, (patient, source) in enumerate(zip(patients, sources, strict=True), 1):
        for image, row in _images_of(number, patient, source, (seed, len(made)), rng):
            made.append(image)
            rows.append(row)
    return PhantomSet(images=made, table_path=TABLE, table="\n".join(rows) + "\n")


def _deal(kinds: NDArray[np.int64], people: int, train: bool, rng: np.random.Generator) -> list[_Patient]:
    """Deal images to patients: one each, the rest unevenly."""
    weights = rng.gamma(_SPREAD, size=people) + 1e-12
    sizes = 1 + rng.multinomial(max(0, len(kinds) - people), weights / weights.sum())
    parts = np.split(rng.permutation(kinds), np.cumsum(sizes)[:-1])
    return [_Patient(train, sorted(part.tolist())) for part in parts if len(part)]


def _assign_sources(sizes: Sequence[int], images: int) -> list[int]:
    """Give each patient, the largest first, the scanner and operator that lacks the most images."""
    lacking = np.array([count for *_, count in _SOURCES]) * images / PUBLISHED_IMAGES
    chosen = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        chosen[index] = int(np.argmax(lacking))
        lacking[chosen[index]] -= sizes[index]
    return chosen


def _images_of(
    number: int, patient: _Patient, source: int, seed: tuple[int, int], rng: np.random.Generator
) -> list[tuple[PhantomImage, str]]:
    """Return the images of a patient, each with its row of the table, where rare scanners are all called by one name."""
    name, operator, _ = _SOURCES[source]
    scanner = name or str(rng.choice(_REST))
    listed = f"Simulated {scanner}" if name else "Other"
    planes = [_KINDS[kind][0] for kind in patient.kinds]
    images = []
    for index, kind in enumerate(patient.kinds):
        plane, brain_plane, *_ = _KINDS[kind]
        place, label = planes[: index + 1].count(plane), _LABELS[plane]
        file = f"Patient{number:05}_Plane{[*_LABELS].index(plane) + 1}_{place}_of_{planes.count(plane)}"
        row = f"{file};{number};{label};{_BRAIN_LABELS[brain_plane]};{operator};{listed};{patient.train:d} "
        path, its_seed = f"{IMAGES}/{file}.png", (seed[0], seed[1] + index)
        images.append(
            (PhantomImage(path=path, plane=plane, brain_plane=brain_plane, scanner=scanner, seed=its_seed), row)
        )
    return images
