"""What a data set of phantoms is made of, whatever its layout; the simulator is asked here for a picture, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.simulation import Burned, find_scanner, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.planes import BrainPlane, Plane

__all__ = [
    "CITATION",
    "LEAST_IMAGES",
    "LICENCE",
    "PhantomImage",
    "PhantomSet",
    "apportion",
    "check_size",
    "render_phantom",
]

LICENCE: Final = "Apache-2.0"
"""Licence of the pictures."""

CITATION: Final = "Images simulated by this package; no image of a person."
"""What to cite of them."""

LEAST_IMAGES: Final = 20
"""Least size: images of every split, and of two patients at least in each of two."""

_CALIPERS: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class PhantomImage:
    """One image to be made.

    Parameters
    ----------
    path
        Where it lies within the data set's folder.
    plane, brain_plane
        What it shows.
    scanner
        Name of the simulated scanner.
    seed
        Seed of all that is random in its pixels.
    cropped
        Whether it is the part of the screen that shows the image, else the whole screen.
    """

    path: str
    plane: Plane
    brain_plane: BrainPlane | None
    scanner: str
    seed: tuple[int, ...]
    cropped: bool = False


@dataclass(frozen=True, kw_only=True)
class PhantomSet:
    """A data set to be made: images, and a table of what the layout wants to know of them.

    Parameters
    ----------
    images
        The images; no two of a path.
    table_path
        Where the table lies within the data set's folder.
    table
        Its text.
    """

    images: Sequence[PhantomImage]
    table_path: str
    table: str


def render_phantom(image: PhantomImage) -> NDArray[np.uint8]:
    """Return the pixels of an image, grey [rows, columns]; whether calipers stand in it does not depend on the plane."""
    rng = np.random.default_rng(image.seed)
    burned = Burned(calipers=bool(rng.random() < _CALIPERS))
    screen = render(image.plane, find_scanner(image.scanner), rng, brain_plane=image.brain_plane, burned=burned)
    return screen.pixels[screen.region.slices] if image.cropped else screen.pixels


def check_size(images: int) -> None:
    """Refuse a data set of too few images.

    Raises
    ------
    ContractError
        If fewer than `LEAST_IMAGES` are wanted.
    """
    if images < LEAST_IMAGES:
        msg = f"Expected {LEAST_IMAGES} images or more, got {images}; a smaller set has too few patients"
        raise ContractError(msg)


def apportion(weights: Sequence[int], total: int) -> NDArray[np.int64]:
    """Share out a total by weights, by the largest remainders.

    Examples
    --------
    >>> apportion([20, 3, 4], 30).tolist()
    [22, 3, 5]
    """
    exact = np.array(weights) * total / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares
