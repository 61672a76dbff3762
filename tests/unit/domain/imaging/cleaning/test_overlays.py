from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval, fill, find_overlays
from fetalmlops.domain.imaging.geometry.sector import find_sector
from support.phantoms import EVERY_SCANNER, image_of

if TYPE_CHECKING:
    from fetalmlops.domain.simulation import Scanner


@EVERY_SCANNER
@pytest.mark.parametrize("plane", [Plane.BRAIN, Plane.FEMUR, Plane.THORAX])
def test_clean_frames_are_not_touched(scanner: Scanner, plane: Plane) -> None:
    image = image_of(scanner, 5, plane)
    assert find_overlays(image, OverlayRemoval()).sum() < 0.005 * find_sector(image).mask.sum()


@EVERY_SCANNER
def test_calipers_and_writing_are_filled(scanner: Scanner) -> None:
    clean = image_of(scanner, 2).astype(int)
    image = image_of(scanner, 2, calipers=True, inside=("AB 12", "CD"))
    drawn = image - clean > 60
    filled = fill(image, find_overlays(image, OverlayRemoval()), OverlayRemoval())
    assert np.abs(filled - clean)[drawn].mean() < 0.6 * np.abs(image - clean)[drawn].mean()
