"""Views that are none of the standard planes, so that "other" has many faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.simulation.shapes import Pose, arc, blob, ellipse, segment, tube
from fetalmlops.domain.simulation.tissue import BONE, FLUID, INTERFACE, SOFT, Tissue

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["paint_other"]


def paint_other(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint one of: profile of the face, spine lengthwise, kidneys, a hand, placenta with cord, a vessel lengthwise."""
    _VIEWS[int(rng.integers(len(_VIEWS)))](tissue, pose, rng)


def _profile(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint forehead, nose, lips and chin from the side, with the frontal bone, nasal bone and jaw."""
    face = np.array(
        [(-1.0, -0.5), (-0.6, -0.78), (-0.1, -0.72), (0.12, -0.58), (0.2, -0.62), (0.42, -0.86), (0.5, -0.66),
         (0.6, -0.74), (0.66, -0.62), (0.74, -0.72), (0.84, -0.56), (1.0, -0.62), (1.1, -0.42), (1.2, 0.5), (-1.1, 0.5)]
    )  # fmt: skip
    outline = face + rng.normal(0, 0.012, face.shape)
    tissue.fill(pose(outline), -24 + rng.normal(0, 2))
    tissue.stroke(pose(outline[:13]), 0.035 * pose.scale, -6, specular=6)
    tissue.fill(pose(ellipse((-0.45, 0.05), (0.6, 0.55))), -36)
    tissue.stroke(pose(arc((-0.45, 0.05), (0.62, 0.68), 3.5, 5.6)), 0.06 * pose.scale, BONE, 260, specular=10)
    tissue.stroke(pose(segment((0.18, -0.5), (0.36, -0.68))), 0.05 * pose.scale, BONE - 4, 260)
    for start, stop in (((0.45, -0.42), (0.62, 0.1)), ((0.86, -0.4), (0.8, 0.15))):
        tissue.stroke(pose(segment(start, stop, 0.08)), 0.06 * pose.scale, BONE - 4, 300)
    tissue.fill(pose(ellipse((0.05, -0.3), (0.13, 0.13))), FLUID)


def _long_spine(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint the spine lengthwise: two rows of ossification centres in a long trunk."""
    tissue.fill(pose(tube(segment((-1.5, 0.1), (1.5, 0.1), 0.02, 24), 1.3)), -23 + rng.normal(0, 2))
    bend, count = rng.normal(0.04, 0.03), int(rng.integers(12, 20))
    row = segment((-1.35, 0), (1.35, 0), bend, count)
    gap = rng.uniform(0.12, 0.18)
    tissue.fill(pose(tube(row, gap)), -46)
    for side in (1.0, -1.0):
        centres = row + np.array([0, side * gap]) + rng.normal(0, 0.012, row.shape)
        tissue.dots(pose(centres), 0.045 * pose.scale, BONE - 2, 420)
    tissue.stroke(pose(segment((-1.5, -0.5), (1.5, -0.5), bend)), 0.03 * pose.scale, -6, specular=8)


def _kidneys(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint both kidneys beside the spine, with their dark pelves."""
    tissue.fill(pose(blob(rng, (0, 0), (1.0, 0.92), roughness=0.02)), -21 + rng.normal(0, 2))
    tissue.dots(pose(np.array([(-0.6, 0.0), (-0.76, 0.12), (-0.76, -0.12)])), 0.055 * pose.scale, BONE - 2, 700)
    for side in (1.0, -1.0):
        kidney = blob(rng, (-0.42, side * 0.4), (0.3, 0.22), side * 0.3, 0.04)
        tissue.fill(pose(kidney), -32)
        tissue.stroke(pose(kidney), 0.03 * pose.scale, -11, specular=4, closed=True)
        tissue.fill(pose(ellipse((-0.4, side * 0.3), (0.11, 0.05))), FLUID)
    for _ in range(8):
        spot = (float(rng.uniform(-0.1, 0.7)), float(rng.uniform(-0.6, 0.6)))
        tissue.fill(pose(blob(rng, spot, (0.14, 0.08), rng.uniform(0, 3), 0.1)), rng.uniform(-34, -14))


def _hand(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint a hand with its fingers, and the two bones of the forearm."""
    tissue.fill(pose(tube(segment((-1.3, 0), (0.0, 0), 0.02), 0.5)), -24)
    tissue.fill(pose(blob(rng, (0.12, 0), (0.36, 0.3), roughness=0.04)), -22)
    for y in (-0.11, 0.11):
        bone = segment((-1.2, y), (-0.28, y), rng.normal(0, 0.03))
        tissue.stroke(pose(bone), 0.06 * pose.scale, BONE - 4, 420, specular=6)
    for index, spread in enumerate(np.linspace(-0.55, 0.6, 5)):
        direction = np.array([np.cos(spread), np.sin(spread)])
        length = 0.85 - 0.12 * abs(index - 2)
        tip = direction * length + np.array([0.15, 0])
        tissue.fill(pose(tube(segment((0.15, 0), (float(tip[0]), float(tip[1]))), 0.12)), -22)
        phalanges = np.outer(np.linspace(0.35, 0.95, 4) * length, direction) + np.array([0.15, 0])
        tissue.dots(pose(phalanges), 0.038 * pose.scale, BONE - 4, 250)


def _cord(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint a wide placenta and loops of cord, each with its three vessels."""
    tissue.fill(pose(blob(rng, (0, 0.75), (1.7, 0.5), roughness=0.05)), SOFT + 2 + rng.normal(0, 2))
    for _ in range(int(rng.integers(2, 5))):
        place = (float(rng.uniform(-1, 1)), float(rng.uniform(-0.6, 0.2)))
        tissue.fill(pose(blob(rng, place, (0.26, 0.22), rng.uniform(0, 3))), -24)
        loop = Pose(centre=place, scale=1.0, angle=rng.uniform(0, 3))
        for vessel, size in (((0.0, 0.08), 0.085), ((-0.1, -0.07), 0.05), ((0.1, -0.07), 0.05)):
            ring = loop(ellipse(vessel, (size, size), n=24))
            tissue.fill(pose(ring), FLUID)
            tissue.stroke(pose(ring), 0.025 * pose.scale, INTERFACE - 3, closed=True)


def _vessel(tissue: Tissue, pose: Pose, rng: np.random.Generator) -> None:
    """Paint a wide vessel lengthwise: dark, between two pairs of bright lines."""
    tissue.fill(np.array([(-1.3, -0.5), (1.3, -0.5), (1.3, 1.5), (-1.3, 1.5)]), SOFT - 3 + rng.normal(0, 3))
    width, bend = rng.uniform(0.5, 0.8), rng.normal(0, 0.04)
    axis = segment((-3.0, 0), (3.0, 0), bend, 48)
    wall = tube(axis, width)
    tissue.fill(pose(wall), FLUID, -10)
    for factor, echo in ((1.0, -4.0), (1.2, -6.0)):
        lines = tube(axis, width * factor)
        for line in (lines[:48], lines[48:]):
            tissue.stroke(pose(line), 0.03 * pose.scale, echo, specular=8)


_VIEWS: tuple[Callable[[Tissue, Pose, np.random.Generator], None], ...] = (
    _profile, _long_spine, _kidneys, _hand, _cord, _vessel,
)  # fmt: skip
