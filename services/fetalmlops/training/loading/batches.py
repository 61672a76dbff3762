"""Batches for the fitting, made ahead by threads: numpy and OpenCV let go of the interpreter while they work."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.training.augmentation import augment
from fetalmlops.training.loading.sampling import image_weights, order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fetalmlops.training.loading.frames import Frames
    from fetalmlops.training.recipe import Recipe

__all__ = ["Batch", "Batches"]

_AHEAD = 4


class Batch(NamedTuple):
    """Frames with labels."""

    frames: NDArray[np.float32]
    """Ready for the network, [images, rows, columns]."""
    planes: NDArray[np.int64]
    """Index of each plane."""
    brain_planes: NDArray[np.int64]
    """Index of each brain sub-plane; `NO_LABEL` where there is none."""


class Batches:
    """The batches of all epochs. Batch n of epoch e is the same whenever, and by however many threads, it is made.

    Parameters
    ----------
    frames
        Prepared frames of the data set.
    chosen
        Which of them are for training.
    recipe
        Sampling, augmentation and seed.
    rank, world
        Which of how many processes this is; each makes its share of every batch.
    threads
        How many make batches.
    """

    def __init__(
        self,
        frames: Frames,
        chosen: Sequence[int],
        recipe: Recipe,
        *,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
    ) -> None:
        self._frames, self._chosen, self._recipe = frames, np.asarray(chosen, np.int64), recipe
        self._rank, self._world, self._threads = rank, world, threads
        images = [frames.images[index] for index in chosen]
        self._weights = image_weights(images, recipe.fitting.balance)
        self._count = recipe.fitting.images_per_epoch or len(images)
        self.waited = 0.0
        """Seconds in which the fitting waited for a batch."""
        self.images = 0
        """Images handed out."""

    @property
    def steps(self) -> int:
        """Batches of an epoch: whole ones only, and at least one."""
        return max(1, self._count // self._recipe.fitting.batch)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `start` on."""
        drawn = self._chosen[order(self._weights, self._count, self._recipe.seed, number)]
        with ThreadPoolExecutor(self._threads) as pool:
            upcoming = iter(range(start, self.steps))
            futures = deque(pool.submit(self._make, drawn, number, step) for step in islice(upcoming, _AHEAD))
            while futures:
                began = time.monotonic()
                batch = futures.popleft().result()
                self.waited += time.monotonic() - began
                self.images += len(batch.planes)
                step = next(upcoming, None)
                if step is not None:
                    futures.append(pool.submit(self._make, drawn, number, step))
                yield batch

    def _make(self, drawn: NDArray[np.int64], epoch: int, step: int) -> Batch:
        cv2.setNumThreads(1)
        size = self._recipe.fitting.batch
        places = np.arange(step * size, min((step + 1) * size, len(drawn)))[self._rank :: self._world]
        images = [self._frames.images[index] for index in drawn[places]]
        return Batch(
            np.stack([self._varied(drawn, epoch, int(place)) for place in places]),
            np.array([PLANES.index(image.plane) for image in images if image.plane], np.int64),
            np.array(
                [NO_LABEL if image.brain_plane is None else BRAIN_PLANES.index(image.brain_plane) for image in images],
                np.int64,
            ),
        )

    def _varied(self, drawn: NDArray[np.int64], epoch: int, place: int) -> NDArray[np.float32]:
        rng = np.random.default_rng((self._recipe.seed, epoch, place))
        scene = self._frames.scene(int(drawn[place]))
        other = self._frames.scene(int(drawn[rng.integers(len(drawn))]))
        frame = augment(scene, other, self._recipe.augmentation, rng)
        return np.asarray(prepare(frame[None], self._frames.spec).batch[0], np.float32)
