"""The picture of a result: its map drawn over its best frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.models.picture import Legend, draw_explanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.platform.inference.client import Classification

__all__ = ["OVERLAY_MEDIA_TYPE", "draw_overlay"]

OVERLAY_MEDIA_TYPE = "image/png"
"""Media type of the picture."""


def draw_overlay(found: Classification, frame: NDArray[np.uint8]) -> bytes:
    """Return the picture, PNG.

    Parameters
    ----------
    found
        The result, with its map where the bundle gives one.
    frame
        Its best frame, ``uint8`` of [rows, columns].
    """
    legend = Legend(
        plane=found.plane,
        confidence=found.confidence,
        brain_plane=found.brain_plane if found.plane is Plane.BRAIN else None,
        decision=found.decision,
        reasons=found.reasons,
        ood_score=found.ood_score,
        frame_number=found.best_frame,
        model=f"{found.model.name} {found.model.version}, {found.model.release_status}",
    )
    return draw_explanation(frame, found.explanation, legend)
