"""FETAL_PLANES_DB as its authors publish it (Burgos-Artizzu et al., Sci Rep 10:10200, 2020): a table, and ``Images/*.png``."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.learning.layouts.listing import Listed, Listing, read_table, refuse
from fetalmlops.domain.learning.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "BRAIN_LABELS",
    "CITATION",
    "COLUMNS",
    "IMAGES",
    "LICENCE",
    "NAME",
    "NO_BRAIN",
    "PLANE_LABELS",
    "TABLE",
    "read_fetal_planes",
]

NAME: Final = "fetal-planes"
"""Name of the layout."""

TABLE: Final = "FETAL_PLANES_DB_data.csv"
"""File of the table."""

IMAGES: Final = "Images"
"""Folder of the images."""

LICENCE: Final = "CC BY 4.0"
"""Licence under which the data set is published."""

CITATION: Final = (
    "Burgos-Artizzu XP et al., Evaluation of deep convolutional neural networks for automatic classification of common "
    "maternal fetal ultrasound planes, Sci Rep 10:10200, 2020, doi 10.1038/s41598-020-67076-5; Zenodo record 3904280"
)
"""What to cite."""

COLUMNS: Final = ("Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train")
"""Columns of the table. Its authors write a blank behind the last one, and behind its values."""

NO_BRAIN: Final = "Not A Brain"
"""Brain label of the other planes."""

PLANE_LABELS: Final[Mapping[str, Plane]] = MappingProxyType(
    {
        "Other": Plane.OTHER,
        "Fetal abdomen": Plane.ABDOMEN,
        "Fetal brain": Plane.BRAIN,
        "Maternal cervix": Plane.CERVIX,
        "Fetal femur": Plane.FEMUR,
        "Fetal thorax": Plane.THORAX,
    }
)
"""Plane of each label; the order is that of the numbers in the images' names, from 1."""

BRAIN_LABELS: Final[Mapping[str, BrainPlane]] = MappingProxyType(
    {
        "Trans-thalamic": BrainPlane.TRANS_THALAMIC,
        "Trans-cerebellum": BrainPlane.TRANS_CEREBELLUM,
        "Trans-ventricular": BrainPlane.TRANS_VENTRICULAR,
        "Other": BrainPlane.OTHER,
    }
)
"""Brain sub-plane of each label."""

_SPLITS: Final[Mapping[str, Split]] = MappingProxyType({"1": Split.TRAIN, "0": Split.TEST})


def read_fetal_planes(table: str, present: Collection[str], *, partial: bool = False) -> Listing:
    """List the images of the table.

    Parameters
    ----------
    table
        Text of the table.
    present
        Names of the files in the folder of images.
    partial
        Whether images of the table that are absent are left out and counted, instead of refused.

    Raises
    ------
    ContractError
        If the table is of another layout, has an unknown label, names an image twice, or images are absent.
    """
    listed: list[Listed] = []
    seen: set[str] = set()
    absent = 0
    for number, row in enumerate(read_table(table, COLUMNS, TABLE, delimiter=";"), 2):
        name = f"{row['Image_name']}.png"
        if name in seen:
            refuse(f"Expected each image once in {TABLE}, got one again in row {number}; remove the row")
        seen.add(name)
        image = _read_row(row, name, number)
        if name in present:
            listed.append(image)
        else:
            absent += 1
    if absent and not partial:
        refuse(
            f"Expected the {len(seen):,} images of {TABLE} in the folder {IMAGES}, got {len(seen) - absent:,}; "
            "add the others, or leave them out with --partial"
        )
    if not listed:
        refuse(f"Expected images of {TABLE} in the folder {IMAGES}, got none; check the folder")
    return Listing(NAME, listed, {"absent": absent} if absent else {})


def _read_row(row: Mapping[str, str], name: str, number: int) -> Listed:
    plane = PLANE_LABELS.get(row["Plane"])
    brain = BRAIN_LABELS.get(row["Brain_plane"])
    split = _SPLITS.get(row["Train"])
    if plane is None or split is None or not row["Patient_num"]:
        refuse(f"Expected a known plane, a patient, and 1 or 0 for Train, got others in row {number} of {TABLE}")
    if (brain is None) != (row["Brain_plane"] == NO_BRAIN) or (brain is not None) != (plane is Plane.BRAIN):
        refuse(f"Expected a known brain plane of brains only, got another in row {number} of {TABLE}")
    return Listed(
        path=f"{IMAGES}/{name}",
        patient=row["Patient_num"],
        split=split,
        plane=plane,
        brain_plane=brain,
        scanner=row["US_Machine"],
        operator=row["Operator"],
    )
