from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.simulation.acoustics import BEAMS, SAMPLES, Insonation, Look
from fetalmlops.domain.simulation.motion import Motion
from fetalmlops.domain.simulation.sector import Probe, Sector, View
from fetalmlops.domain.simulation.shapes import ellipse, segment
from fetalmlops.domain.simulation.tissue import BONE, FLUID, SOFT, Tissue

PLAIN = Look(dynamic_range=90, gain=0, tilt=0, haze=0, noise=-120)
DECIBELS = PLAIN.dynamic_range / 255
LINEAR = Sector(radius=0.0, half_angle=0.5, half_width=0.5, depth_mm=80)
CONVEX = Sector(radius=0.4, half_angle=0.6, half_width=0.5, depth_mm=120)


def beams(tissue: Tissue, look: Look = PLAIN) -> np.ndarray:
    return Insonation(tissue, LINEAR, look, np.random.default_rng(3)).beams().astype(float)


def test_speckle_of_even_tissue_is_rayleigh_distributed() -> None:
    grey = beams(Tissue(SOFT)) * DECIBELS
    spread = [grey[y : y + 40, x : x + 24].std() for y in range(40, 360, 40) for x in range(10, 160, 24)]
    assert np.median(spread) == pytest.approx(5.57, abs=0.9)


def test_fluid_is_darker_than_soft_tissue_by_what_the_scene_says() -> None:
    tissue = Tissue(SOFT)
    tissue.fill(ellipse((0, 0.5), (0.2, 0.2)), SOFT - 20)
    grey = beams(tissue)
    inside, outside = grey[180:240, 85:107].mean(), grey[180:240, 5:27].mean()
    assert (outside - inside) * DECIBELS == pytest.approx(20, abs=5)


def test_bone_is_bright_and_throws_a_shadow() -> None:
    tissue = Tissue(SOFT)
    tissue.stroke(segment((-0.2, 0.4), (0.2, 0.4)), 0.03, BONE, loss=800)
    grey = beams(tissue)
    row = int(0.4 * SAMPLES)
    middle, side = slice(85, 107), slice(5, 27)
    assert grey[row - 5 : row + 5, middle].max() > grey[row - 5 : row + 5, side].max() + 10
    assert (grey[300:380, side].mean() - grey[300:380, middle].mean()) * DECIBELS > 12


def test_a_smooth_surface_fades_where_the_beam_runs_along_it() -> None:
    tissue = Tissue(FLUID)
    tissue.stroke(ellipse((0, 0.5), (0.3, 0.3)), 0.02, 0.0, specular=25, closed=True)
    x = np.float32([[0.0, 0.3]])
    y = np.float32([[0.2, 0.5]])
    echo, _ = tissue.sample(x, y)
    assert echo[0, 0] > echo[0, 1] + 10


def test_point_spread_grows_away_from_the_focus() -> None:
    look = Look(dynamic_range=90, gain=0, tilt=0, haze=0, noise=-120, focus=0.3)
    grey = beams(Tissue(SOFT), look)

    def sideways(rows: slice) -> float:
        part = grey[rows] - grey[rows].mean(axis=1, keepdims=True)
        return float((part[:, 1:] * part[:, :-1]).mean() / (part * part).mean())

    assert sideways(slice(350, 410)) > sideways(slice(100, 150)) + 0.05


@pytest.mark.parametrize("sector", [LINEAR, CONVEX])
def test_locate_inverts_beams(sector: Sector) -> None:
    columns, rows = sector.locate(*sector.beams(SAMPLES, BEAMS), SAMPLES, BEAMS)
    assert np.abs(columns - np.arange(BEAMS)).max() < 0.05
    assert np.abs(rows - np.arange(SAMPLES)[:, None]).max() < 0.05


@pytest.mark.parametrize("sector", [LINEAR, CONVEX])
def test_the_interpolated_lookup_is_exact_enough(sector: Sector) -> None:
    view = View.fit(sector, (10, 20, 410, 353), zoom=1.2)
    columns, rows = view.lookup(SAMPLES, BEAMS)
    x0, y0, x1, y1 = view.box
    assert columns.shape == (y1 - y0, x1 - x0)
    px, py = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    x, y = (px - view.origin[0]) / view.scale, (py - view.origin[1]) / view.scale
    exact = sector.locate(x.astype(np.float32), y.astype(np.float32), SAMPLES, BEAMS)
    assert np.abs(columns - exact[0]).max() < 0.1
    assert np.abs(rows - exact[1]).max() < 0.1


def test_the_region_measures_what_it_shows() -> None:
    view = View.fit(LINEAR, (0, 0, 500, 500))
    region = view.region
    assert (region.y1 - region.y0) * region.delta_cm == pytest.approx(8.0, abs=0.1)
    assert region.reference[0] == pytest.approx((region.x1 - region.x0) / 2, abs=1.5)


def test_a_probe_draws_within_its_ranges() -> None:
    probe = Probe(radius=(0.1, 0.2), half_angle=(30, 31), depth_mm=(50, 60))
    for seed in range(20):
        sector = probe.aim(np.random.default_rng(seed))
        assert 0.1 <= sector.radius <= 0.2
        assert 30 <= np.degrees(sector.half_angle) <= 31
        assert 50 <= sector.depth_mm <= 60


def test_motion_is_nothing_at_the_start_and_small_later() -> None:
    motion = Motion.draw(np.random.default_rng(1), beating=True)
    x, y = CONVEX.beams(64, 32)
    still_x, still_y = motion.displaced(x, y, 0.0)
    assert np.allclose(still_x, x, atol=1e-6)
    assert np.allclose(still_y, y, atol=1e-6)
    moved_x, moved_y = motion.displaced(x, y, 0.2)
    assert 0 < np.hypot(moved_x - x, moved_y - y).max() < 0.12
