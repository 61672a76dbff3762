"""The prepared frames of a data set, made once and mapped into memory after that.

A frame goes through the normalisation and the resize of serving and is kept as ``uint8`` at the size of the network's
input. Standardising it gives what serving would: a frame of that size is not resized again.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.geometry.sector import SectorSearch, find_sector
from fetalmlops.domain.models.prepare import fit_content, prepare
from fetalmlops.training.augmentation import Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fetalmlops.domain.imaging.pipelines.normalize import Pipeline
    from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry
    from fetalmlops.domain.models.manifest import InputSpec

__all__ = ["DataSource", "Frames", "cache_frames"]

_VERSION: Final = 1
_THREADS: Final = os.cpu_count() or 1


class DataSource(Protocol):
    """A data set on disk."""

    @property
    def manifest(self) -> DataManifest:
        """Its images."""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest."""

    def read(self, entry: ImageEntry) -> NDArray[np.uint8]:
        """Return the decoded image, grey of [rows, columns] or RGB of [rows, columns, 3]."""


@dataclass(frozen=True, eq=False)
class Frames:
    """The prepared frames of some images, in their order.

    Parameters
    ----------
    images
        The images.
    spec
        Input of the network.
    grey, sector
        Frames and where their sectors lie, ``uint8`` of [images, rows, columns]; beside a frame's own size lies black.
    sizes
        Rows and columns of each frame, [images, 2].
    """

    images: Sequence[ImageEntry]
    spec: InputSpec
    grey: NDArray[np.uint8]
    sector: NDArray[np.uint8]
    sizes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.images)

    def scene(self, index: int) -> Scene:
        """Return a frame with its sector."""
        rows, columns = self.sizes[index]
        return Scene(self.grey[index, :rows, :columns], self.sector[index, :rows, :columns])

    def batch(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Return frames ready for the network, ``float32`` of [indices, input rows, input columns]."""
        return np.concatenate([prepare(self.scene(index).frame[None], self.spec).batch for index in indices])


def cache_frames(
    data: DataSource, pipeline: Pipeline, spec: InputSpec, folder: Path, report: Callable[[int, int], None]
) -> Frames:
    """Return the prepared frames of all images with a label, from the folder's cache where that has them.

    Parameters
    ----------
    data
        The data set.
    pipeline
        Normalisation.
    spec
        Input of the network.
    folder
        Where caches lie; each is named by the digest of all that decides its bytes.
    report
        Gets the number of images done and that of all.

    Raises
    ------
    ContractError
        If no image has a label.
    """
    images = [image for image in data.manifest.images if image.plane is not None]
    if not images:
        msg = "Expected a data set with labelled images, got none with a label; add labels"
        raise ContractError(msg, reason="data")
    place = folder / f"{_cache_digest(images, pipeline, spec)[:24]}.npy"
    if not place.exists():
        _write(data, images, pipeline, spec, place, report)
    stored = np.load(place, mmap_mode="r")
    sizes = np.load(place.with_suffix(".sizes.npy"))
    return Frames(images, spec, stored[0], stored[1], sizes)


def _cache_digest(images: Sequence[ImageEntry], pipeline: Pipeline, spec: InputSpec) -> str:
    names = [(image.sha256, image.frame, image.scanner) for image in images]
    parts = [_VERSION, pipeline.digest, spec.rows, spec.columns, spec.fit, names]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write(
    data: DataSource,
    images: Sequence[ImageEntry],
    pipeline: Pipeline,
    spec: InputSpec,
    place: Path,
    report: Callable[[int, int], None],
) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{os.getpid()}.{place.name}")
    shape = (2, len(images), spec.rows, spec.columns)
    stored = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
    sizes = np.zeros((len(images), 2), np.int32)

    def keep(index: int) -> None:
        scene = _prepared(data, images[index], pipeline, spec)
        rows, columns = sizes[index] = scene.frame.shape
        stored[0, index, :rows, :columns] = scene.frame
        stored[1, index, :rows, :columns] = scene.sector

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            for done, _ in enumerate(pool.map(keep, range(len(images))), 1):
                report(done, len(images))
        stored.flush()
        sizes_draft = draft.with_suffix(".sizes.npy")
        np.save(sizes_draft, sizes)
        sizes_draft.replace(place.with_suffix(".sizes.npy"))
        # Last: where this file is, both are whole.
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


def _prepared(data: DataSource, image: ImageEntry, pipeline: Pipeline, spec: InputSpec) -> Scene:
    cv2.setNumThreads(1)
    normalized = pipeline.run_array(data.read(image), scanner=image.scanner)
    frame = normalized.frames[0]
    sector = normalized.sector or find_sector(frame, SectorSearch())
    content = fit_content(frame, spec)
    return Scene(content, sector.scaled(*content.shape).mask.astype(np.uint8))
