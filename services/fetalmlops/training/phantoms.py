"""The images that the demonstration is trained on, and which simulated scanners it sees when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from fetalmlops.domain.simulation.rendering import record
from fetalmlops.domain.simulation.scanners import SCANNERS, find_scanner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.planes import BrainPlane, Plane

__all__ = ["TEST_SCANNERS", "TRAINING_SCANNERS", "VALIDATION_SCANNERS", "render"]

_NAMES = tuple(scanner.name for scanner in SCANNERS)

TRAINING_SCANNERS = _NAMES[:4]
"""Scanners of the training images."""
VALIDATION_SCANNERS = _NAMES[4:5]
"""Scanners of the images that set temperature, thresholds and the limit of the out-of-scope score."""
TEST_SCANNERS = _NAMES[5:]
"""Scanners of the images that the reported figures come from."""


def render(plane: Plane, brain_plane: BrainPlane | None, scanner: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the sector of one image, grey ``uint8`` of [rows, columns], as the normaliser hands it on.

    Parameters
    ----------
    plane, brain_plane
        What is shown.
    scanner
        Name of a simulated scanner.
    rng
        Source of all that is random.
    """
    cv2.setNumThreads(1)
    return record(plane, find_scanner(scanner), rng, brain_plane=brain_plane).image()
