"""A data set of phantoms of which training sees some scanners only: a model that holds on the others has learned planes.

It lies as folders of planes, split by split, with a table of patients and scanners: the layout ``folders``.
"""

from __future__ import annotations

from typing import Final

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.phantoms.images import PhantomImage, PhantomSet, apportion, check_size
from fetalmlops.domain.simulation import SCANNERS

__all__ = ["KINDS", "SCANNERS_OF", "folder_of", "TABLE", "USUAL_IMAGES", "plan_scanners"]

_NAMES: Final = tuple(scanner.name for scanner in SCANNERS)

SCANNERS_OF: Final = {Split.TRAIN: _NAMES[:4], Split.VALIDATION: _NAMES[4:5], Split.TEST: _NAMES[5:]}
"""Scanners of each split: no scanner is in two."""

TABLE: Final = "patients.csv"
"""File of patients and scanners."""

_USUAL: Final = {Split.TRAIN: 3000, Split.VALIDATION: 450, Split.TEST: 600}

USUAL_IMAGES: Final = sum(_USUAL.values())
"""Images of a set of the usual size: enough to train on, few enough to be made in minutes."""

KINDS: Final[tuple[tuple[Plane, BrainPlane | None], ...]] = (
    *((plane, None) for plane in PLANES if plane is not Plane.BRAIN),
    *((Plane.BRAIN, brain_plane) for brain_plane in BRAIN_PLANES),
    (Plane.OTHER, None),
)
"""What the images of a patient show, in turn."""


def plan_scanners(images: int, seed: int) -> PhantomSet:
    """Plan a data set: each patient has an image of each kind by one scanner; equal arguments give equal plans.

    An image's pixels depend on the seed, its split and its number within that, and not on the size of the set.

    Parameters
    ----------
    images
        How many; the splits share them as they do a set of `USUAL_IMAGES`.
    seed
        Seed.

    Raises
    ------
    ContractError
        If fewer than `LEAST_IMAGES` are wanted.
    """
    check_size(images)
    counts = dict(zip(_USUAL, apportion([*_USUAL.values()], images).tolist(), strict=True))
    made: list[PhantomImage] = []
    rows = ["path,patient,scanner"]
    for split, count in counts.items():
        for number in range(count):
            image = _image(split, number, seed)
            made.append(image)
            # Patients of another seed are other patients.
            rows.append(f"{image.path},{seed}-{split}-{number // len(KINDS)},{image.scanner}")
    return PhantomSet(images=made, table_path=TABLE, table="\n".join(rows) + "\n")


def folder_of(plane: Plane, brain_plane: BrainPlane | None) -> str:
    """Return the folder that the layout ``folders`` has for a plane, or for a sub-plane of the brain."""
    return plane.value if brain_plane is None else f"{plane.value}/{brain_plane.value}"


def _image(split: Split, number: int, seed: int) -> PhantomImage:
    plane, brain_plane = KINDS[number % len(KINDS)]
    scanners = SCANNERS_OF[split]
    return PhantomImage(
        path=f"{split}/{folder_of(plane, brain_plane)}/{number:05}.png",
        plane=plane,
        brain_plane=brain_plane,
        scanner=scanners[number // len(KINDS) % len(scanners)],
        seed=(seed, [*Split].index(split), number),
        cropped=True,
    )
