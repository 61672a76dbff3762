"""Writing a data set of phantoms: table and pictures, on several cores, to be gone on with where it broke off."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import cv2
import msgspec

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.layouts import folders
from fetalmlops.domain.learning.manifest import DataManifest, Split, encode_data_manifest
from fetalmlops.domain.learning.phantoms.images import CITATION, LICENCE, render_phantom
from fetalmlops.platform.files import replace_file
from fetalmlops.platform.learning.datasets import measure_images
from fetalmlops.platform.learning.sources import LAYOUTS, LayoutOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fetalmlops.domain.learning.phantoms.images import PhantomImage, PhantomSet

__all__ = ["write_dataset", "write_phantoms"]

_CHUNK = 8
_PNG_LEVEL = 2


def write_phantoms(
    root: Path, plan: PhantomSet, *, workers: int = 0, progress: Callable[[], None] = lambda: None
) -> int:
    """Write the pictures of a plan that are not there yet, and its table.

    Parameters
    ----------
    root
        Folder of the data set.
    plan
        What to make.
    workers
        Processes; 0 for one a core, 1 for none but this one.
    progress
        Called after each picture.

    Returns
    -------
    int
        Pictures that were made now.

    Raises
    ------
    ContractError
        If the folder holds another data set.
    """
    root.mkdir(parents=True, exist_ok=True)
    _write_table(root / plan.table_path, plan.table)
    for folder in {(root / image.path).parent for image in plan.images}:
        folder.mkdir(parents=True, exist_ok=True)
    missing = [image for image in plan.images if not (root / image.path).exists()]
    for _ in range(len(plan.images) - len(missing)):
        progress()
    task = partial(_write, root)
    if workers == 1 or len(missing) <= _CHUNK:
        for image in missing:
            task(image)
            progress()
        return len(missing)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
        for _ in pool.map(task, missing, chunksize=_CHUNK):
            progress()
    return len(missing)


def write_dataset(folder: Path, plan: PhantomSet, name: str, *, workers: int = 0) -> None:
    """Write the pictures of a plan that lies as folders of planes, and the manifest of them beside.

    Parameters
    ----------
    folder
        Folder of the data set; `fetalmlops.platform.learning.datasets.open_dataset` opens it.
    plan
        What to make; images without a split are for test.
    name
        Name of the data set.
    workers
        As of `write_phantoms`.
    """
    write_phantoms(folder, plan, workers=workers)
    listing = LAYOUTS[folders.NAME].read(folder, LayoutOptions(patients=folder / plan.table_path))
    measured, _ = measure_images(folder, listing.images)
    images = [
        msgspec.structs.replace(image, split=Split.TEST) if image.split is Split.UNKNOWN else image
        for image in measured
    ]
    manifest = DataManifest(name=name, layout=listing.layout, licence=LICENCE, citation=CITATION, images=images)
    replace_file(folder / "manifest.json", encode_data_manifest(manifest))


def _write_table(path: Path, text: str) -> None:
    if path.exists():
        if path.read_text("utf-8") != text:
            msg = "Expected a folder without another data set, got one; name a new folder, or the images and seed of this one"
            raise ContractError(msg, reason="data-layout")
        return
    replace_file(path, text.encode())


def _write(root: Path, image: PhantomImage) -> None:
    cv2.setNumThreads(1)
    done, picture = cv2.imencode(".png", render_phantom(image), [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not done:
        msg = "Expected a picture that can be coded as PNG, got none; report this"
        raise RuntimeError(msg)
    replace_file(root / image.path, picture.tobytes())
