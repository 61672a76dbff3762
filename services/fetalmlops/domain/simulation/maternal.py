"""What surrounds the fetus, and the maternal cervix."""

from __future__ import annotations

import numpy as np

from fetalmlops.domain.simulation.shapes import Pose, arc, blob, ellipse, segment, tube
from fetalmlops.domain.simulation.tissue import BONE, FLUID, INTERFACE, SOFT, Tissue

__all__ = ["paint_cervix", "paint_uterus"]

_WIDE = 1.3


def paint_uterus(rng: np.random.Generator) -> Tissue:
    """Return a scene of abdominal wall, uterine wall, fluid and at times a placenta: the same for every fetal view."""
    tissue = Tissue(FLUID + rng.uniform(0, 10) if rng.random() < 0.75 else rng.uniform(-42, -30))
    if rng.random() < 0.4:
        _placenta(tissue, rng, front=True)
    elif rng.random() < 0.6:
        _placenta(tissue, rng, front=False)
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 0.85), rng.uniform(0.25, 0.9)
        tissue.fill(
            blob(rng, (x, y), (rng.uniform(0.1, 0.25), rng.uniform(0.1, 0.25)), rng.uniform(0, 3)),
            rng.uniform(-30, -18),
        )
    floor = rng.uniform(0.82, 1.05)
    edge = segment(
        (-_WIDE, floor + rng.normal(0, 0.06)), (_WIDE, floor + rng.normal(0, 0.06)), rng.normal(0.0, 0.03), 24
    )
    tissue.fill(np.concatenate([edge, [(_WIDE, 1.5), (-_WIDE, 1.5)]]), SOFT + rng.normal(0, 3))
    tissue.stroke(edge, 0.015, INTERFACE, specular=8)
    _abdominal_wall(tissue, rng, rng.uniform(0.05, 0.2))
    return tissue


def paint_cervix(rng: np.random.Generator) -> Tissue:
    """Return a scene with the maternal cervix: its body with the canal in it, bladder, the fetus's head at the inner end."""
    tissue = Tissue(SOFT - 3 + rng.normal(0, 2))
    pose = Pose(
        centre=(rng.normal(0, 0.05), rng.uniform(0.38, 0.55)),
        scale=rng.uniform(0.2, 0.3),
        angle=rng.normal(0.0, 0.3),
        mirror=bool(rng.random() < 0.5),
    )
    _fetal_pole(tissue, pose, rng)
    _bladder(tissue, pose, rng)
    body = tube(
        segment((-1.0, 0), (1.15, 0), rng.normal(0.05, 0.04), 32), rng.uniform(0.95, 1.25) * np.linspace(1.1, 0.85, 32)
    )
    tissue.fill(pose(body), -25 + rng.normal(0, 2))
    half = len(body) // 2
    for wall in (body[:half], body[half:]):
        tissue.stroke(pose(wall), 0.03 * pose.scale, -12, specular=6)
    _canal(tissue, pose, rng)
    _abdominal_wall(tissue, rng, rng.uniform(0.02, 0.14))
    return tissue


def _canal(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint the canal: a dark glandular zone around a bright line, from the inner to the outer os, at times funnelled."""
    axis = segment((-0.98, 0), (1.05, 0), rng.normal(0.06, 0.05), 40)
    tissue.fill(pose(tube(axis, rng.uniform(0.22, 0.34))), -36 + rng.normal(0, 2))
    tissue.stroke(pose(axis), 0.035 * pose.scale, -8 + rng.normal(0, 3), specular=8)
    if rng.random() < 0.5:
        depth = rng.uniform(0.15, 0.5)
        funnel = np.array([(-1.15, -0.25), (-1.0 + depth, 0.0), (-1.15, 0.25)])
        tissue.fill(pose(funnel), FLUID)
    for end in (-0.98, 1.05):
        tissue.stroke(pose(segment((end, -0.14), (end, 0.14), rng.normal(0, 0.2))), 0.025 * pose.scale, -13)
    for _ in range(int(rng.integers(0, 4))):
        cyst = ellipse(
            (float(rng.uniform(-0.7, 0.8)), float(rng.choice([-1, 1]) * rng.uniform(0.18, 0.4))), (0.045, 0.045), n=16
        )
        tissue.fill(pose(cyst), FLUID)


def _fetal_pole(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint the fluid above the inner os, and in it the near edge of the fetus's head with its shadow."""
    fluid = blob(rng, (-2.1, rng.normal(0, 0.2)), (1.25, rng.uniform(0.9, 1.3)), roughness=0.05)
    tissue.fill(pose(fluid), FLUID + 6)
    tissue.stroke(pose(fluid), 0.03 * pose.scale, -9, specular=6, closed=True)
    if rng.random() < 0.85:
        radius = rng.uniform(0.9, 1.2)
        centre = (-1.3 - radius, rng.normal(0.1, 0.15))
        tissue.fill(pose(ellipse(centre, (radius, radius))), -32)
        tissue.stroke(pose(arc(centre, (radius, radius), -1.3, 1.3)), 0.09 * pose.scale, BONE - 2, 300, specular=10)


def _bladder(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    if rng.random() < 0.6:
        size = rng.uniform(0.2, 0.5)
        outline = blob(rng, (rng.uniform(-0.9, -0.2), -0.75 - size * 0.4), (0.6, size), rng.normal(0, 0.2), 0.1)
        tissue.fill(pose(outline), FLUID, -12)
        tissue.stroke(pose(outline), 0.03 * pose.scale, -8, specular=6, closed=True)


def _placenta(tissue: Tissue, rng: np.random.Generator, *, front: bool) -> None:
    x, reach, thickness = rng.uniform(-0.5, 0.5), rng.uniform(0.5, 0.9), rng.uniform(0.14, 0.24)
    y = rng.uniform(0.08, 0.2) if front else rng.uniform(0.86, 0.98)
    tissue.fill(blob(rng, (x, y), (reach, thickness), rng.normal(0, 0.08), 0.06), -17 + rng.normal(0, 2))
    for _ in range(int(rng.integers(0, 5))):
        lake = ellipse((float(x + rng.uniform(-0.4, 0.4)), float(y + rng.normal(0, 0.04))), (0.03, 0.015), n=16)
        tissue.fill(lake, -44)


def _abdominal_wall(tissue: Tissue, rng: np.random.Generator, thickness: float) -> None:
    """Paint skin, fat, muscle and the uterine wall: bands along the probe's face."""
    lower = segment(
        (-_WIDE, thickness + rng.normal(0, 0.03)), (_WIDE, thickness + rng.normal(0, 0.03)), rng.normal(0, 0.015), 24
    )
    tissue.fill(np.concatenate([[(-_WIDE, -0.6), (_WIDE, -0.6)], lower[::-1]]), -15 + rng.normal(0, 3))
    for share in np.sort(rng.uniform(0.1, 0.95, int(rng.integers(3, 8)))):
        band = lower * (1.0, 0.0) + (0.0, thickness * float(share)) + lower * (0.0, 0.3)
        tissue.stroke(band - (0.0, 0.3 * thickness), rng.uniform(0.005, 0.014), rng.uniform(-26, -4))
    tissue.stroke(lower, 0.012, INTERFACE - 2, specular=6)
