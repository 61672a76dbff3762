from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane, SectorShape
from fetalmlops.domain.imaging.geometry.sector import Sector, find_sector
from fetalmlops.domain.simulation import (
    SCANNERS,
)
from fetalmlops.domain.simulation.rendering import _scene
from support.phantoms import EVERY_SCANNER, image_of

if TYPE_CHECKING:
    from fetalmlops.domain.simulation import Scanner


@EVERY_SCANNER
@pytest.mark.parametrize("seed", [3, 4, 5])
@pytest.mark.parametrize("drawn", [False, True])
def test_the_sector_is_found_or_the_whole_box_counts(scanner: Scanner, seed: int, drawn: bool) -> None:
    view, _, _ = _scene(Plane.ABDOMEN, scanner, np.random.default_rng(seed), None)
    beams, depths = view.lookup(512, 128)
    truth = (beams >= 0) & (beams <= 127) & (depths >= 0) & (depths <= 511)
    found = find_sector(image_of(scanner, seed, calipers=drawn, inside=("AB 12",) if drawn else ()))
    assert found.shape in (SectorShape.NONE, SectorShape.FAN if view.sector.convex else SectorShape.RECTANGLE)
    # Where the sides of a fan are dark all the way, as in fluid, it comes out too narrow; nothing that is bright is lost.
    assert (found.mask & truth).sum() > 0.7 * truth.sum()
    image = image_of(scanner, seed)
    assert (found.mask & (image > 40)).sum() > 0.9 * (image > 40).sum()


def test_most_sectors_are_found() -> None:
    found = [find_sector(image_of(scanner, seed)).shape for scanner in SCANNERS for seed in range(6)]
    assert found.count(SectorShape.NONE) <= 0.15 * len(found)
    assert {SectorShape.FAN, SectorShape.RECTANGLE} < set(found) | {SectorShape.NONE}


@pytest.mark.parametrize("level", [0, 255])
def test_a_frame_without_a_sector_is_taken_whole(level: int) -> None:
    assert find_sector(np.full((90, 120), level, np.uint8)).mask.all()


def test_the_apex_and_the_angles_of_a_fan_are_right() -> None:
    view, _, _ = _scene(Plane.ABDOMEN, SCANNERS[3], np.random.default_rng(0), None)
    found = find_sector(image_of(SCANNERS[3]))
    apex = view.origin[1] - view.box[1] - view.sector.radius * view.scale, view.origin[0] - view.box[0]
    assert found.apex == pytest.approx(apex, abs=12)
    assert np.abs(found.angles) == pytest.approx([view.sector.half_angle] * 2, abs=0.06)


def test_a_fan_whose_face_the_screen_cuts_off_keeps_its_upper_tissue() -> None:
    fan = Sector(
        shape=SectorShape.FAN, rows=200, columns=300, apex=(-160.0, 150.0), angles=(-0.6, 0.6), radii=(150.0, 380.0)
    )
    found = find_sector(fan.mask.astype(np.uint8) * 90)
    assert found.shape is SectorShape.FAN
    assert (found.mask & fan.mask).sum() > 0.99 * fan.mask.sum()


def test_a_fan_is_as_wide_as_the_tissue_in_its_depth() -> None:
    fan = Sector(
        shape=SectorShape.FAN, rows=200, columns=300, apex=(-60.0, 150.0), angles=(-0.6, 0.6), radii=(75.0, 255.0)
    )
    shadowed = replace(fan, angles=(-0.5, 0.6))
    frame = np.where(np.arange(200)[:, None] < 110, shadowed.mask, fan.mask).astype(np.uint8) * 90
    assert (find_sector(frame).mask & fan.mask).sum() > 0.97 * fan.mask.sum()


def test_what_is_neither_fan_nor_rectangle_is_outlined_and_writing_beside_it_goes() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:200, 0:300]
    blob = (x > 20 + 0.8 * y) & (x < 230) & (y > 10)
    frame = np.where(blob, rng.integers(40, 120, blob.shape), 0).astype(np.uint8)
    frame[10:14, 270:296] = 200
    found = find_sector(frame)
    assert found.shape is SectorShape.NONE
    assert (found.mask & blob).sum() > 0.99 * blob.sum()
    assert not found.mask[10:14, 270:296].any()
    doubled = found.scaled(400, 600)
    assert doubled.mask.sum() == pytest.approx(4 * found.mask.sum(), rel=0.03)
