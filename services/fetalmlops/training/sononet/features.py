"""What the frozen trunk says of images and of their varied copies: computed once, all else is fitted on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from fetalmlops.domain.models.prepare import prepare
from fetalmlops.training.sononet.recipe import INPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.training.sononet.images import Image
    from fetalmlops.training.sononet.network import SonoNetPlanes

__all__ = ["Features", "featurise", "featurise_images", "varied"]


@dataclass(frozen=True, eq=False)
class Features:
    """Pooled activations; copy 0 is the image itself.

    Parameters
    ----------
    embedding
        Of the adaptation layer, ``float32`` of [images, copies, 64].
    pooled
        Of the last two blocks, ``float32`` of [images, copies, 256].
    """

    embedding: NDArray[np.float32]
    pooled: NDArray[np.float32]

    def of(self, chosen: NDArray[np.bool_]) -> Features:
        """Return those of the chosen images."""
        return Features(self.embedding[chosen], self.pooled[chosen])


def featurise_images(network: SonoNetPlanes, images: Sequence[Image], copies: int, seed: int) -> Features:
    """Run the trunk over images and `copies` varied copies of each; every image has its own stream of random numbers."""
    rows = []
    for index, image in enumerate(images):
        rng = np.random.default_rng((seed, index))
        rows.append(featurise(network, [image.frame, *(varied(image.frame, rng) for _ in range(copies))]))
    return Features(np.stack([row.embedding[:, 0] for row in rows]), np.stack([row.pooled[:, 0] for row in rows]))


def featurise(network: SonoNetPlanes, frames: Sequence[NDArray[np.uint8]]) -> Features:
    """Run the trunk over normalised frames of any sizes, without copies."""
    batch = np.concatenate([prepare(frame[None], INPUT).batch for frame in frames])
    with torch.inference_mode():
        outputs = network(torch.from_numpy(batch)[:, None])
    return Features(outputs.embedding.numpy()[:, None], outputs.features.numpy()[:, None])


def varied(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a frame turned, resized, moved, mirrored and with another grey curve, as another examination would have it."""
    rows, columns = frame.shape
    move = cv2.getRotationMatrix2D((columns / 2, rows / 2), rng.uniform(-12, 12), rng.uniform(0.9, 1.1))
    move[:, 2] += rng.uniform(-0.05, 0.05, 2) * (columns, rows)
    if rng.random() < 0.5:
        frame = np.ascontiguousarray(frame[:, ::-1])
    curve = 255 * (np.arange(256) / 255) ** rng.uniform(0.8, 1.25)
    moved = cv2.warpAffine(frame, move, (columns, rows), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.LUT(moved, curve.astype(np.uint8)), np.uint8)
