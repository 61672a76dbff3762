"""The fetal trunk and thigh: transverse abdomen, four-chamber thorax, femur.

The frames of the two transverse cuts are round with radius 1; the spine lies at -x, the fetus's front at +x.
"""

from __future__ import annotations

import numpy as np

from fetalmlops.domain.simulation.shapes import Points, Pose, arc, blob, ellipse, segment, tube
from fetalmlops.domain.simulation.tissue import BONE, FLUID, INTERFACE, Tissue

__all__ = ["paint_abdomen", "paint_femur", "paint_thorax"]


def paint_abdomen(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint the plane of the abdominal circumference: stomach, umbilical vein, spine, aorta, vena cava, ribs' ends."""
    wall = blob(rng, (0, 0), (1.0, rng.uniform(0.86, 0.98)), roughness=0.02)
    tissue.fill(pose(wall), -17 + rng.normal(0, 2))
    inside = wall * rng.uniform(0.84, 0.9)
    liver = -29 + rng.normal(0, 2)
    tissue.fill(pose(inside), liver)
    _outline(tissue, pose, wall, 0.028, -8)
    _rib_ends(tissue, pose, rng, count=int(rng.integers(2, 5)))
    _spine(tissue, pose, rng)
    _vessels(tissue, pose, rng, (-0.42, 0.1), (-0.3, -0.22))
    stomach = blob(
        rng, (rng.normal(-0.02, 0.05), rng.normal(0.45, 0.04)), (rng.uniform(0.2, 0.32), rng.uniform(0.14, 0.2)), 0.3
    )
    tissue.fill(pose(stomach), FLUID, -16)
    _outline(tissue, pose, stomach, 0.025, INTERFACE - 4)
    _umbilical_vein(tissue, pose, rng)
    for _ in range(int(rng.integers(3, 8))):
        spot = (float(rng.uniform(-0.2, 0.6)), float(rng.uniform(-0.6, -0.1)))
        tissue.fill(pose(ellipse(spot, (0.05, 0.02), rng.uniform(0, 3), 16)), liver + rng.choice([-14.0, 9.0]))


def paint_thorax(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint the four-chamber view: heart with septa and valves, ribs, spine, descending aorta, lungs."""
    wall = blob(rng, (0, 0), (1.0, rng.uniform(0.84, 0.96)), roughness=0.025)
    tissue.fill(pose(wall), -17 + rng.normal(0, 2))
    tissue.fill(pose(wall * 0.88), -24 + rng.normal(0, 2))
    _outline(tissue, pose, wall, 0.025, -12)
    _ribs(tissue, pose, rng)
    _spine(tissue, pose, rng)
    tissue.fill(pose(ellipse((-0.5, 0.12), (0.075, 0.075))), FLUID)
    _outline(tissue, pose, ellipse((-0.5, 0.12), (0.08, 0.08)), 0.022, -8)
    axis = rng.uniform(0.5, 0.95)
    heart = Pose(
        centre=(0.12 + rng.normal(0, 0.03), 0.08 + rng.normal(0, 0.03)), scale=rng.uniform(0.46, 0.56), angle=axis
    )
    _heart(tissue, pose, heart, rng)


def paint_femur(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint a thigh with its femur along x (from -1 to 1): blunt bright ends, a shaft that throws a shadow."""
    thigh = tube(
        segment((-2.6, 0.1), (1.9, 0.0), rng.normal(0, 0.03), 32), np.linspace(1.5, 0.55, 32) * rng.uniform(0.8, 1.1)
    )
    tissue.fill(pose(thigh), -27 + rng.normal(0, 3))
    half = len(thigh) // 2
    for skin in (thigh[:half], thigh[half:]):
        tissue.stroke(pose(skin), 0.035 * pose.scale, -6, specular=10)
    for _ in range(int(rng.integers(5, 10))):
        y = rng.uniform(-0.35, 0.35)
        start = rng.uniform(-1.1, 0.3)
        tissue.stroke(pose(segment((start, y), (start + rng.uniform(0.3, 0.8), y), 0.02)), 0.012 * pose.scale, -19)
    for end in (-1.12, 1.1):
        knob = blob(rng, (end, rng.normal(0, 0.02)), (0.17, 0.17), roughness=0.05)
        tissue.fill(pose(knob), -48)
        _outline(tissue, pose, knob, 0.02, -16)
    bend = rng.normal(0.03, 0.02)
    shaft = tube(
        segment((-1, 0), (1, 0), bend, 24), 0.1 * (1 + 0.5 * np.linspace(-1, 1, 24) ** 4) * rng.uniform(0.9, 1.4)
    )
    loss = rng.uniform(500, 1100)
    tissue.fill(pose(shaft), BONE - 3, loss)
    tissue.stroke(pose(segment((-1, 0), (1, 0), bend, 24)), 0.05 * pose.scale, BONE + 4, loss, specular=9)


def _outline(tissue: Tissue, pose: Pose, outline: Points, width: float, echo: float = INTERFACE) -> None:
    tissue.stroke(pose(outline), width * pose.scale, echo, specular=9, closed=True)


def _spine(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint a vertebra: the ossification centres of its body and of the two halves of its arch."""
    x = -0.72 + rng.normal(0, 0.015)
    tissue.fill(pose(ellipse((x - 0.04, 0), (0.17, 0.19))), -30)
    centres = np.array([(x + 0.1, 0.0), (x - 0.09, 0.12), (x - 0.09, -0.12)])
    tissue.dots(pose(centres), rng.uniform(0.05, 0.065) * pose.scale, BONE - 2, 700)


def _rib_ends(tissue: Tissue, pose: Pose, rng: np.random.Generator, count: int) -> None:
    for angle in rng.uniform(0.8, 2.4, count) * rng.choice([-1.0, 1.0], count):
        curve = arc((0, 0), (0.88, 0.82), angle, angle + rng.uniform(0.12, 0.3), n=10)
        tissue.stroke(pose(curve), 0.045 * pose.scale, BONE - 4, 350, specular=8)


def _ribs(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint one long rib on each side, as the four-chamber view asks, and at times the tip of a second."""
    for side in (1.0, -1.0):
        start = rng.uniform(1.0, 1.4)
        curve = arc((0, 0), (0.9, 0.83), side * start, side * (2.65 + rng.normal(0, 0.08)), n=28)
        tissue.stroke(pose(curve), 0.05 * pose.scale, BONE - 2, rng.uniform(150, 380), specular=14)
        if rng.random() < 0.5:
            tip = arc((0, 0), (0.92, 0.85), side * 0.55, side * (0.7 + rng.uniform(0, 0.15)), n=8)
            tissue.stroke(pose(tip), 0.045 * pose.scale, BONE - 5, 300, specular=8)


def _vessels(tissue: Tissue, pose: Pose, rng: np.random.Generator, *places: tuple[float, float]) -> None:
    for place in places:
        size = rng.uniform(0.05, 0.07)
        tissue.fill(pose(ellipse(place, (size, size))), FLUID)
        _outline(tissue, pose, ellipse(place, (size * 1.1, size * 1.1)), 0.02, -10)


def _umbilical_vein(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint the hockey stick: from the front to a third of the way in, then bending to the right (portal sinus)."""
    y = rng.normal(0.0, 0.03)
    stem = segment((0.66, y), (0.2, y), rng.normal(0, 0.04), 14)
    bow = arc((0.2, y - 0.24), (0.2, 0.24), np.pi / 2, np.pi * rng.uniform(0.95, 1.1), n=14)
    axis = np.concatenate([stem, bow[1:]])
    vein = tube(axis, np.linspace(0.09, 0.14, len(axis)))
    tissue.fill(pose(vein), FLUID)
    half = len(axis)
    for wall in (vein[:half], vein[half:]):
        tissue.stroke(pose(wall), 0.024 * pose.scale, INTERFACE - 2, specular=7)


def _heart(tissue: Tissue, outer: Pose, inner: Pose, rng: np.random.Generator) -> None:
    """Paint the heart with its apex towards +x: ventricles in front, atria behind, crux between."""

    def place(points: Points) -> Points:
        return outer(inner(points))

    size = outer.scale * inner.scale
    muscle = blob(rng, (0, 0), (1.06, rng.uniform(0.8, 0.9)), roughness=0.02)
    tissue.fill(place(muscle), -20 + rng.normal(0, 1.5))
    tissue.stroke(place(muscle), 0.035 * size, -9, specular=6, closed=True)
    for side, length in ((1.0, rng.uniform(0.5, 0.56)), (-1.0, rng.uniform(0.42, 0.5))):
        ventricle = blob(
            rng, (0.42, side * 0.36), (length, rng.uniform(0.24, 0.28)), angle=-side * 0.34, roughness=0.04
        )
        atrium = blob(rng, (-0.52, side * 0.35), (0.3, rng.uniform(0.26, 0.31)), angle=side * 0.25, roughness=0.04)
        for chamber in (ventricle, atrium):
            tissue.fill(place(chamber), FLUID, -8)
            tissue.stroke(place(chamber), 0.03 * size, -9, specular=4, closed=True)
        leaflets = segment(
            (-0.13, side * 0.07), (-0.1 + rng.normal(0, 0.02), side * 0.62), rng.normal(-0.1, 0.05) * side
        )
        tissue.stroke(place(leaflets), 0.045 * size, -7, specular=5)
    tissue.stroke(
        place(segment((-0.08, 0), (0.92, 0), rng.normal(0, 0.02))), 0.13 * size, -10 + rng.normal(0, 2), specular=6
    )
    tissue.stroke(place(segment((-0.82, 0), (-0.5, 0))), 0.06 * size, -10, specular=6)
    flap = segment((-0.52, 0.02), (-0.26, 0.16 * rng.uniform(0.5, 1.2)), 0.2)
    tissue.stroke(place(flap), 0.03 * size, -12)
