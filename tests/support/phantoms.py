"""Phantom images as a scanner shows them, for tests of what is done to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.simulation import SCANNERS, Burned, render

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.simulation import Scanner

EVERY_SCANNER = pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)


def image_of(scanner: Scanner, seed: int = 0, plane: Plane = Plane.ABDOMEN, **burned: object) -> NDArray[np.uint8]:
    """The region of a screen, [rows, columns]."""
    screen = render(plane, scanner, np.random.default_rng(seed), burned=Burned(**burned))
    return screen.pixels[screen.region.slices]
