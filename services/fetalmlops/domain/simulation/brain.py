"""The fetal head: its three standard axial planes, and views of the brain that are none of them.

The frame of the head has the occipito-frontal axis along x (forehead at +1, occiput at -1) and the parietal bones at
about ±0.78. What tells the planes apart is what the practice guidelines name: thalami and cavum septi pellucidi without
cerebellum; the atrium of the lateral ventricle with its choroid plexus; cerebellum and cisterna magna.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.contracts.planes import BrainPlane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.simulation.shapes import Points, Pose, arc, blob, ellipse, segment, tube
from fetalmlops.domain.simulation.tissue import BONE, FLUID, INTERFACE, SOFT, Tissue

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["paint_head"]

_BRAIN = -34.0


def paint_head(tissue: Tissue, pose: Pose, plane: BrainPlane, rng: np.random.Generator) -> None:
    """Paint a head.

    Parameters
    ----------
    tissue
        The scene, painted in place.
    pose
        Centre, half occipito-frontal diameter (`scale`) and long axis of the head.
    plane
        One of the four brain views.
    rng
        Source of the random anatomy.

    Raises
    ------
    ContractError
        If `plane` is not a view that can be painted.
    """
    painter = _PAINTERS.get(plane)
    if painter is None:
        msg = f"Expected a brain plane among {', '.join(_PAINTERS)}, got another; choose one of these"
        raise ContractError(msg)
    painter(_Head(tissue, pose, rng, width=rng.uniform(0.74, 0.84)))


class _Head:
    """A head in the making: shorthand for painting in its frame."""

    def __init__(self, tissue: Tissue, pose: Pose, rng: np.random.Generator, width: float) -> None:
        self.tissue, self.pose, self.rng, self.width = tissue, pose, rng, width

    def fill(self, outline: Points, echo: float) -> None:
        self.tissue.fill(self.pose(outline), echo)

    def stroke(self, curve: Points, width: float, echo: float, specular: float = 0.0) -> None:
        self.tissue.stroke(self.pose(curve), width * self.pose.scale, echo, specular=specular)

    def jitter(self, spread: float = 0.03) -> float:
        return float(self.rng.normal(0, spread))


def _trans_thalamic(head: _Head) -> None:
    _skull(head)
    _fissures(head)
    _midline(head, (-0.9, -0.2), (0.62, 0.92))
    _cavum(head)
    _thalami(head)
    _hippocampus(head)


def _trans_ventricular(head: _Head) -> None:
    _skull(head)
    _fissures(head)
    _midline(head, (-0.92, 0.2), (0.62, 0.92))
    _cavum(head)
    _anterior_horns(head)
    for side in (1.0, -1.0):
        _lateral_ventricle(head, side, clear=side > 0 or head.rng.random() < 0.35)


def _trans_cerebellum(head: _Head) -> None:
    _skull(head)
    _midline(head, (-0.2, 0.12), (0.6, 0.9))
    _cavum(head)
    _thalami(head, forward=0.12)
    _cerebellum(head)


def _other(head: _Head) -> None:
    if head.rng.random() < 0.5:
        _skull_base(head)
    else:
        _coronal(head)


def _skull(head: _Head, roundness: float = 0.0) -> None:
    rng, width = head.rng, head.width + roundness
    head.fill(blob(rng, (0, 0), (1.09, width + 0.09), roughness=0.02), SOFT)
    skull = blob(rng, (0, 0), (1.0, width), roughness=0.012, n=72)
    head.fill(skull, _BRAIN + rng.normal(0, 2))
    thickness = rng.uniform(0.045, 0.075) * head.pose.scale
    head.tissue.stroke(
        head.pose(skull), thickness, BONE, rng.uniform(60, 220), specular=rng.uniform(12, 34), closed=True
    )


def _fissures(head: _Head) -> None:
    """Paint short bright arcs: the sulci, and the insula (Sylvian fissure) of both sides."""
    rng, width = head.rng, head.width
    for _ in range(int(rng.integers(6, 14))):
        angle = rng.uniform(0, 2 * np.pi)
        reach = rng.uniform(0.6, 0.85)
        centre = (float(reach * np.cos(angle)), float(reach * width * np.sin(angle)))
        length = rng.uniform(0.05, 0.14)
        start = rng.uniform(0, 2 * np.pi)
        curve = arc(centre, (length, length * rng.uniform(0.4, 1)), start, start + rng.uniform(0.8, 2.2), n=8)
        head.stroke(curve, 0.018, -20 + rng.normal(0, 4))
    for side in (1.0, -1.0):
        y = side * width * rng.uniform(0.62, 0.74)
        curve = segment((-0.02 + head.jitter(), y), (0.34 + head.jitter(), y + side * 0.05), bend=-0.12 * side)
        head.stroke(curve, 0.03, -12 + rng.normal(0, 3), specular=8)


def _midline(head: _Head, *pieces: tuple[float, float]) -> None:
    """Paint the falx over the given stretches of x: seen as a line of echoes, now and then interrupted."""
    bend = head.jitter(0.01)
    for start, stop in pieces:
        x = start
        while x < stop:
            end = min(stop, x + head.rng.uniform(0.15, 0.5))
            head.stroke(
                segment((x, 0), (end, 0), bend), head.rng.uniform(0.016, 0.03), -3 + head.jitter(3), specular=10
            )
            x = end + head.rng.uniform(0.0, 0.04)


def _cavum(head: _Head) -> None:
    """Paint the cavum septi pellucidi: a fluid box in the anterior third of the midline."""
    x, half, gap = 0.45 + head.jitter(0.03), head.rng.uniform(0.09, 0.14), head.rng.uniform(0.035, 0.06)
    head.fill(np.array([(x - half, -gap), (x + half, -gap), (x + half, gap), (x - half, gap)]), FLUID)
    for side in (1.0, -1.0):
        head.stroke(segment((x - half, side * gap), (x + half, side * gap)), 0.022, INTERFACE, specular=8)


def _thalami(head: _Head, forward: float = 0.0) -> None:
    """Paint the thalami: two dark ovals at the midline, with the slit of the third ventricle between them."""
    rng = head.rng
    x, length, depth = forward + head.jitter(0.03), rng.uniform(0.19, 0.25), rng.uniform(0.12, 0.16)
    for side in (1.0, -1.0):
        outline = ellipse((x, side * (depth + 0.015)), (length, depth), angle=side * 0.25)
        head.fill(outline, -46 + rng.normal(0, 2))
        head.stroke(np.concatenate([outline, outline[:1]]), 0.016, -19 + rng.normal(0, 2))
    head.stroke(segment((x - 0.15, 0), (x + 0.13, 0)), 0.014, -8, specular=8)


def _hippocampus(head: _Head) -> None:
    for side in (1.0, -1.0):
        curve = arc(
            (-0.3 + head.jitter(), side * 0.27), (0.2, 0.13), 0.2, 2.6, angle=side * 0.4 + (side < 0) * np.pi, n=16
        )
        head.stroke(curve, 0.03, -17 + head.jitter(2))


def _anterior_horns(head: _Head) -> None:
    for side in (1.0, -1.0):
        axis = segment((0.4 + head.jitter(), side * 0.13), (0.62, side * 0.3), bend=0.15 * side)
        outline = tube(axis, np.linspace(0.03, 0.1, len(axis)))
        head.fill(outline, FLUID)
        head.stroke(outline, 0.014, -14)


def _lateral_ventricle(head: _Head, side: float, *, clear: bool) -> None:
    """Paint the body and atrium of a lateral ventricle with its choroid plexus; the near one is often veiled."""
    rng = head.rng
    axis = segment((0.12, side * 0.3), (-0.74 + head.jitter(), side * (0.4 + head.jitter())), bend=-0.16 * side, n=24)
    swell = 0.06 + rng.uniform(0.12, 0.2) * np.clip(np.linspace(-0.2, 1.5, 24), 0, 1) * np.linspace(1.15, 0.8, 24)
    outline = tube(axis, swell)
    head.fill(outline, FLUID if clear else _BRAIN - 8)
    count = len(axis)
    for wall in (outline[:count], outline[count:]):
        head.stroke(wall, 0.026, INTERFACE if clear else -14, specular=8)
    plexus = tube(axis[4:18], 0.85 * swell[4:18] * np.sin(np.linspace(0.5, np.pi - 0.3, 14)))
    head.fill(plexus, -7 + rng.normal(0, 2) if clear else -16)


def _cerebellum(head: _Head) -> None:
    """Paint the cerebellum's two lobes and vermis, and the cisterna magna behind them."""
    rng = head.rng
    x, reach = -0.52 + head.jitter(0.02), rng.uniform(0.24, 0.3)
    head.fill(ellipse((x - 0.2, 0), (0.2, 0.34)), FLUID)
    for side in (1.0, -1.0):
        lobe = blob(rng, (x, side * reach), (rng.uniform(0.16, 0.2), reach * 0.92), angle=side * 0.15, roughness=0.03)
        head.fill(lobe, -25 + rng.normal(0, 2))
        head.stroke(np.concatenate([lobe, lobe[:1]]), 0.026, -7 + rng.normal(0, 2), specular=4)
        for fold in np.linspace(-0.5, 0.5, 4):
            y = side * reach + fold * reach
            head.stroke(segment((x - 0.11, y), (x + 0.11, y), 0.08 * side), 0.012, -17)
    head.fill(ellipse((x - 0.01, 0), (0.12, 0.075)), -10 + rng.normal(0, 2))
    head.stroke(arc((x + 0.33, 0), (0.16, 0.2), np.pi * 0.6, np.pi * 1.4), 0.02, -16)


def _skull_base(head: _Head) -> None:
    """Paint the skull base: sphenoid wings and petrous ridges make a bright X."""
    _skull(head, roundness=0.08)
    rng = head.rng
    for x, turn in ((1.0, 0.62), (-1.0, 0.7)):
        for side in (1.0, -1.0):
            reach = rng.uniform(0.62, 0.74)
            end = (x * reach * np.cos(turn + head.jitter()), side * reach * np.sin(turn))
            axis = segment((0.06 * x, 0.04 * side), end, bend=0.08 * x * side)
            head.tissue.stroke(head.pose(axis), 0.055 * head.pose.scale, BONE - 4, 60, specular=8)
    head.fill(ellipse((0.02, 0), (0.11, 0.08)), -12)
    head.fill(ellipse((-0.62, 0), (0.14, 0.2)), _BRAIN - 4)


def _coronal(head: _Head) -> None:
    """Paint a coronal cut: a round head, upright falx, choroid plexuses as butterfly wings."""
    _skull(head, roundness=0.16)
    rng = head.rng
    _midline(head, (-0.95, -0.3))
    for side in (1.0, -1.0):
        wing = blob(rng, (-0.2 + head.jitter(), side * 0.36), (0.34, 0.2), angle=-side * 0.5, roughness=0.06)
        head.fill(blob(rng, (-0.22, side * 0.42), (0.46, 0.27), angle=-side * 0.5, roughness=0.04), FLUID)
        head.fill(wing, -8 + rng.normal(0, 2))
        head.stroke(segment((0.3, side * 0.45), (0.4, side * 0.85), 0.15 * side), 0.03, -12)
    head.fill(ellipse((0.62, 0), (0.2, 0.3)), -18)
    head.stroke(arc((0.5, 0), (0.16, 0.5), -1.4, 1.4), 0.04, -2, specular=6)


_PAINTERS: dict[BrainPlane, Callable[[_Head], None]] = {
    BrainPlane.TRANS_THALAMIC: _trans_thalamic,
    BrainPlane.TRANS_VENTRICULAR: _trans_ventricular,
    BrainPlane.TRANS_CEREBELLUM: _trans_cerebellum,
    BrainPlane.OTHER: _other,
}
