"""Data sets of simulated images: rendered, augmented and prepared exactly as serving prepares frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from fetalmlops.domain.models.manifest import InputSpec

    Renderer = Callable[[Plane, BrainPlane | None, str, np.random.Generator], NDArray[np.uint8]]

__all__ = ["NO_BRAIN", "Dataset", "render_dataset"]

NO_BRAIN = -100
"""Brain label of images that show no brain; the loss ignores it."""

_KINDS: tuple[tuple[Plane, BrainPlane | None], ...] = (
    *((plane, None) for plane in PLANES if plane is not Plane.BRAIN),
    *((Plane.BRAIN, brain_plane) for brain_plane in BRAIN_PLANES),
    (Plane.OTHER, None),
)
_CHUNK = 16


@dataclass(frozen=True, eq=False)
class Dataset:
    """Prepared images with labels.

    Parameters
    ----------
    frames
        ``float32`` of [images, rows, columns].
    planes, brain_planes
        Indices of the labels, [images]; `NO_BRAIN` where there is no brain.
    digest
        SHA-256 over images and labels in order.
    """

    frames: NDArray[np.float32]
    planes: NDArray[np.int64]
    brain_planes: NDArray[np.int64]
    digest: str

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def kinds(self) -> NDArray[np.int64]:
        """One number per plane, and per sub-plane of the brain, [images]: the classes of the out-of-scope reference."""
        return np.where(self.brain_planes == NO_BRAIN, self.planes, len(PLANES) + self.brain_planes)


def render_dataset(
    render: Renderer,
    spec: InputSpec,
    *,
    images: int,
    scanners: Sequence[str],
    seed: int,
    augmented: bool,
    pool: Executor,
) -> Dataset:
    """Render a data set: planes and scanners take turns, all else is random. The same arguments give the same images.

    Parameters
    ----------
    render
        Makes one image of a plane, and brain sub-plane, by a scanner.
    spec
        Input of the network.
    images
        How many.
    scanners
        Names of the simulated scanners to use.
    seed
        Seed; every image has its own stream of random numbers.
    augmented
        Whether to vary the images further, for training.
    pool
        Where to render.
    """
    task = partial(_render_one, render, spec, tuple(scanners), seed, augmented)
    rendered = list(pool.map(task, range(images), chunksize=_CHUNK))
    frames = np.stack([frame for frame, _, _ in rendered])
    planes = np.array([plane for _, plane, _ in rendered], np.int64)
    brain_planes = np.array([brain for _, _, brain in rendered], np.int64)
    hasher = hashlib.sha256()
    for array in (frames, planes, brain_planes):
        hasher.update(array.tobytes())
    return Dataset(frames, planes, brain_planes, hasher.hexdigest())


def _render_one(
    render: Renderer, spec: InputSpec, scanners: tuple[str, ...], seed: int, augmented: bool, index: int
) -> tuple[NDArray[np.float32], int, int]:
    rng = np.random.default_rng((seed, index))
    plane, brain_plane = _KINDS[index % len(_KINDS)]
    scanner = scanners[index // len(_KINDS) % len(scanners)]
    image = render(plane, brain_plane, scanner, rng)
    if augmented:
        image = _augment(image, rng)
    brain = NO_BRAIN if brain_plane is None else BRAIN_PLANES.index(brain_plane)
    return prepare(image[None], spec).batch[0], PLANES.index(plane), brain


def _augment(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Vary place, size, direction, grey curve and focus, and blank a part, as another examination would."""
    rows, columns = image.shape
    turn, size = rng.uniform(-12, 12), rng.uniform(0.88, 1.12)
    move = cv2.getRotationMatrix2D((columns / 2, rows / 2), turn, size)
    move[:, 2] += rng.uniform(-0.05, 0.05, 2) * (columns, rows)
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    image = np.asarray(cv2.warpAffine(image, move, (columns, rows), flags=cv2.INTER_LINEAR), np.uint8)
    curve = 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.15)
    image = np.asarray(cv2.LUT(image, np.clip(curve, 0, 255).astype(np.uint8)), np.uint8)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    if rng.random() < 0.3:
        top, left = int(rng.integers(rows * 3 // 4)), int(rng.integers(columns * 3 // 4))
        image[top : top + rows // 6, left : left + columns // 6] = 0
    return image
