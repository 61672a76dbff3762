"""Explanations: the class-activation map of the network's grid brought back to the frame.

A map shows what moved the model, not where the anatomy is, nor that the answer is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.models.prepare import place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.manifest import InputSpec

__all__ = ["GRID_STEP", "frame_map"]

GRID_STEP = 4
"""Input pixels per cell of the returned grid."""


def frame_map(activation: NDArray[np.float32], rows: int, columns: int, spec: InputSpec) -> NDArray[np.float32]:
    """Return an activation map on a coarse grid over the whole frame, without the black beside it.

    Parameters
    ----------
    activation
        Map of one plane, [map rows, map columns], over the network's input.
    rows, columns
        Size of the frame.
    spec
        Input of the network.

    Returns
    -------
    NDArray[np.float32]
        [grid rows, grid columns]: one cell per `GRID_STEP` input pixels, interpolated linearly.

    Examples
    --------
    >>> from fetalmlops.domain.models.manifest import InputSpec
    >>> ramp = np.tile(np.arange(10, dtype=np.float32), (8, 1))
    >>> grid = frame_map(ramp, 300, 300, InputSpec(rows=128, columns=160))
    >>> grid.shape, float(grid[0, 0]), float(grid[0, -1])
    ((32, 32), 0.625, 8.375)
    """
    placement = place(rows, columns, spec)
    steps = np.array([activation.shape[1] / spec.columns, activation.shape[0] / spec.rows])
    size = (max(1, round(placement.columns / GRID_STEP)), max(1, round(placement.rows / GRID_STEP)))
    cell = np.array([placement.columns, placement.rows]) / size * steps
    # Pixel centres: cell i covers [i, i + 1) of its axis, so its centre lies half a cell on.
    shift = np.array([placement.left, placement.top]) * steps + cell / 2 - 0.5
    to_map = np.array([[cell[0], 0, shift[0]], [0, cell[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(activation, to_map, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
