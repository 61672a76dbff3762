"""Phantoms: a scene for each plane, with random anatomy, size, place and direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.simulation.brain import paint_head
from fetalmlops.domain.simulation.maternal import paint_cervix, paint_uterus
from fetalmlops.domain.simulation.others import paint_other
from fetalmlops.domain.simulation.shapes import Pose
from fetalmlops.domain.simulation.trunk import paint_abdomen, paint_femur, paint_thorax

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.simulation.tissue import Tissue

__all__ = ["make_phantom"]


def make_phantom(plane: Plane, rng: np.random.Generator, brain_plane: BrainPlane | None = None) -> Tissue:
    """Return a scene that shows a plane.

    Parameters
    ----------
    plane
        One of the six planes.
    rng
        Source of all that is random: the same state gives the same scene.
    brain_plane
        For `Plane.BRAIN`: which view of the brain; drawn at random when None.

    Raises
    ------
    ContractError
        If the plane cannot be shown, or a brain plane is named for another plane.
    """
    if brain_plane is not None and plane is not Plane.BRAIN:
        msg = "Expected a brain plane only with the plane brain, got it with another; leave it out"
        raise ContractError(msg)
    if plane is Plane.CERVIX:
        return paint_cervix(rng)
    tissue = paint_uterus(rng)
    if plane is Plane.BRAIN:
        view = brain_plane or BRAIN_PLANES[int(rng.integers(len(BRAIN_PLANES)))]
        paint_head(tissue, _pose(rng, 0.3, 0.42, tilt=0.6), view, rng)
        return tissue
    painter = _BODIES.get(plane)
    if painter is None:
        msg = "Expected a plane among the six standard ones, got another; choose one of these"
        raise ContractError(msg)
    smallest, largest, tilt = _SIZES[plane]
    painter(tissue, _pose(rng, smallest, largest, tilt), rng)
    return tissue


_BODIES: dict[Plane, Callable[[Tissue, Pose, np.random.Generator], None]] = {
    Plane.ABDOMEN: paint_abdomen,
    Plane.THORAX: paint_thorax,
    Plane.FEMUR: paint_femur,
    Plane.OTHER: paint_other,
}
_SIZES = {
    Plane.ABDOMEN: (0.26, 0.36, np.pi),
    Plane.THORAX: (0.26, 0.36, np.pi),
    Plane.FEMUR: (0.22, 0.34, 0.5),
    Plane.OTHER: (0.24, 0.36, 0.8),
}


def _pose(rng: np.random.Generator, smallest: float, largest: float, tilt: float) -> Pose:
    return Pose(
        centre=(float(rng.normal(0, 0.05)), float(rng.uniform(0.46, 0.6))),
        scale=float(rng.uniform(smallest, largest)),
        angle=float(rng.uniform(-tilt, tilt)),
        mirror=bool(rng.random() < 0.5),
    )
