"""Variation of training images: what another examination, hand, scanner or setting would have shown.

Every step knows the sector: what physics does happens inside it, what screens do may happen anywhere. All that is random
comes from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.training.augmentation.acoustics import attenuate, cast_shadow, scale_grey, speckle
from fetalmlops.training.augmentation.screens import move, swap_background, write_strip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.training.recipe import Augmentation

__all__ = ["Scene", "augment"]

_WHITE = 255


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and where its sector lies.

    Parameters
    ----------
    frame
        Grey levels, ``uint8`` of [rows, columns].
    sector
        Nonzero inside the sector, ``uint8`` of the same shape.
    """

    frame: NDArray[np.uint8]
    sector: NDArray[np.uint8]


def augment(scene: Scene, other: Scene, how: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a variation of an image, ``uint8`` of its shape.

    Parameters
    ----------
    scene
        The image; it is not changed.
    other
        The image whose surroundings BackMix may take.
    how
        How far to go.
    rng
        Source of all that is random: the same state gives the same image.
    """
    # Which steps run is drawn first, so that the strength of one changes nothing about another.
    flipped, blurred, shadowed, mixed, written = rng.random(5) < (
        how.flip,
        how.blurred,
        how.shadows,
        how.background,
        how.strips,
    )
    grey = scene.frame.astype(np.float32)
    grey = scale_grey(grey, rng.uniform(-how.gamma, how.gamma), rng.uniform(-how.gain, how.gain))
    grey = attenuate(grey, rng.uniform(-how.attenuation, how.attenuation))
    if how.speckle or how.noise:
        grey = speckle(grey, rng.uniform(0, how.speckle), rng.uniform(0, how.noise), rng)
    if shadowed:
        grey = cast_shadow(grey, rng)
    if blurred and how.blur:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.3, max(0.31, how.blur))), np.float32)
    frame = np.where(scene.sector > 0, np.clip(grey, 0, _WHITE), scene.frame).astype(np.uint8)
    if mixed:
        frame = swap_background(frame, scene.sector, other.frame, other.sector)
    if written:
        write_strip(frame, rng)
    return move(frame, how, rng, flipped=bool(flipped))
