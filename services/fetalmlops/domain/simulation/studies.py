"""Simulated studies: instances over all planes, from one patient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from pydicom import uid

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, BrainPlane, Plane
from fetalmlops.domain.simulation.instances import SimulatedInstance, make_instance
from fetalmlops.domain.simulation.pixels import Layout
from fetalmlops.domain.simulation.scanners import SCANNERS, Scanner
from fetalmlops.domain.simulation.specs import BurnIn, InstanceSpec, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StudySpec", "make_study", "plan_study"]

_VIEWS: tuple[tuple[Plane, BrainPlane | None], ...] = (
    *((Plane.BRAIN, brain) for brain in BRAIN_PLANES if brain is not BrainPlane.OTHER),
    (Plane.ABDOMEN, None),
    (Plane.THORAX, None),
    (Plane.FEMUR, None),
    (Plane.CERVIX, None),
    (Plane.OTHER, None),
    (Plane.BRAIN, BrainPlane.OTHER),
)
_CINE_EVERY = 4


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """What study to simulate. Equal specs give equal instances.

    Parameters
    ----------
    seed
        Number of the study: patient, dates, UIDs and anatomy follow from it.
    instances
        Images of the study.
    scanner
        On whose screen; drawn from the seed when None.
    cine_frames
        Frames of a cine; every fourth image, from the first on, is a cine unless this is 0.
    transfer_syntax, layout
        How pixels are stored.
    burn_in
        Where the patient's identity stands in the pixels.
    report
        Whether a structured report without an image ends the study.
    """

    seed: int = 0
    instances: int = 12
    scanner: Scanner | None = None
    cine_frames: int = 0
    transfer_syntax: str = uid.ExplicitVRLittleEndian
    layout: Layout = field(default_factory=Layout)
    burn_in: BurnIn = BurnIn.OUTSIDE
    report: bool = False


def plan_study(spec: StudySpec) -> Iterator[InstanceSpec]:
    """Yield the specs of a study's instances; nothing is rendered."""
    rng = np.random.default_rng((spec.seed, 0))
    first = InstanceSpec(
        study=spec.seed,
        scanner=spec.scanner or SCANNERS[int(rng.integers(len(SCANNERS)))],
        transfer_syntax=spec.transfer_syntax,
        layout=spec.layout,
        burn_in=spec.burn_in,
    )
    order = rng.permutation(len(_VIEWS))
    for index in range(spec.instances):
        plane, brain_plane = _VIEWS[order[index % len(_VIEWS)]]
        image = replace(
            first, number=index + 1, plane=plane, brain_plane=brain_plane, calipers=bool(rng.random() < 0.3)
        )
        if spec.cine_frames and index % _CINE_EVERY == 0:
            image = replace(image, kind=Kind.ULTRASOUND_MULTIFRAME, frames=spec.cine_frames)
        yield image
    if spec.report:
        yield replace(
            first, number=spec.instances + 1, kind=Kind.COMPREHENSIVE, transfer_syntax=uid.ExplicitVRLittleEndian
        )


def make_study(spec: StudySpec) -> Iterator[SimulatedInstance]:
    """Yield a study's instances one by one.

    Examples
    --------
    >>> study = list(make_study(StudySpec(seed=3, instances=2)))
    >>> len({instance.spec.study_instance_uid for instance in study}), len({i.spec.sop_instance_uid for i in study})
    (1, 2)
    """
    return map(make_instance, plan_study(spec))
