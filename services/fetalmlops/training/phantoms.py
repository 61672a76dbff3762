"""The images that the demonstration is trained on, and which simulated scanners it sees when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline
from fetalmlops.domain.simulation.rendering import Burned
from fetalmlops.domain.simulation.rendering import render as render_screen
from fetalmlops.domain.simulation.scanners import SCANNERS, find_scanner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.planes import BrainPlane, Plane

__all__ = ["TEST_SCANNERS", "TRAINING_SCANNERS", "VALIDATION_SCANNERS", "render"]

_CALIPERS = 0.3
_PIPELINE = find_pipeline(PLAIN)
_NAMES = tuple(scanner.name for scanner in SCANNERS)

TRAINING_SCANNERS = _NAMES[:4]
"""Scanners of the training images."""
VALIDATION_SCANNERS = _NAMES[4:5]
"""Scanners of the images that set temperature, thresholds and the limit of the out-of-scope score."""
TEST_SCANNERS = _NAMES[5:]
"""Scanners of the images that the reported figures come from."""


def render(plane: Plane, brain_plane: BrainPlane | None, scanner: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image as serving gets it: a scanner's screen, brought through the normaliser.

    Parameters
    ----------
    plane, brain_plane
        What is shown.
    scanner
        Name of a simulated scanner.
    rng
        Source of all that is random; whether calipers stand in the image does not depend on the plane.

    Returns
    -------
    NDArray[np.uint8]
        The sector, grey, [rows, columns].
    """
    cv2.setNumThreads(1)
    burned = Burned(calipers=bool(rng.random() < _CALIPERS))
    screen = render_screen(plane, find_scanner(scanner), rng, brain_plane=brain_plane, burned=burned)
    region = screen.region
    sector = Box(top=region.y0, left=region.x0, bottom=region.y1 + 1, right=region.x1 + 1)
    frame: NDArray[np.uint8] = _PIPELINE.run_array(screen.pixels, sector=sector).frames[0]
    return frame
