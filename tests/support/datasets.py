"""Small data sets in the layouts of others: pictures of noise, and tables as their authors write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.learning.layouts.fetal_planes import IMAGES, TABLE
from fetalmlops.domain.learning.manifest import ImageEntry, Split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEADER = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
ROWS = (
    "Patient00001_Plane1_1_of_2;1;Other;Not A Brain;Other;Aloka;1 ",
    "Patient00001_Plane3_2_of_2;1;Fetal brain;Trans-thalamic;Op. 3;Aloka;1 ",
    "Patient00002_Plane5_1_of_1;2;Fetal femur;Not A Brain;Op. 1;Voluson E6;1 ",
    "Patient00003_Plane3_1_of_1;3;Fetal brain;Other;Op. 2;Voluson E6;1 ",
    "Patient00004_Plane4_1_of_1;4;Maternal cervix;Not A Brain;Other;Voluson S10;0 ",
    "Patient00005_Plane6_1_of_1;5;Fetal thorax;Not A Brain;Other;Other;0 ",
)
TABLE_TEXT = "\r\n".join((HEADER, *ROWS)) + "\r\n"


def picture(seed: int, rows: int = 60, columns: int = 80) -> NDArray[np.uint8]:
    """Return a picture of smooth noise; different seeds give pictures that are not alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12), np.uint8)
    return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_fetal_planes(root: Path, table: str = TABLE_TEXT) -> Path:
    """Write a data set in the layout of FETAL_PLANES_DB."""
    root.mkdir(parents=True, exist_ok=True)
    (root / TABLE).write_text(table, "utf-8")
    for number, line in enumerate(table.splitlines()[1:]):
        write_picture(root / IMAGES / f"{line.partition(';')[0]}.png", picture(number))
    return root


def entry(number: int, **changes: object) -> ImageEntry:
    """Return an entry unlike those of other numbers."""
    values: dict[str, object] = {
        "path": f"{number}.png",
        "sha256": f"{number:064x}",
        "pixels": f"{number:064x}",
        "hash": np.random.default_rng(number).bytes(8).hex(),
        "patient": str(number),
        "split": Split.TRAIN,
        "rows": 60,
        "columns": 80,
    }
    return ImageEntry(**{**values, **changes})  # type: ignore[arg-type]
