from __future__ import annotations

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.simulation import SCANNERS, Burned, find_scanner, record, render, render_sector
from fetalmlops.domain.simulation.rendering import CYCLE

VIEWS = [*((Plane.BRAIN, brain) for brain in BRAIN_PLANES), *((p, None) for p in PLANES if p is not Plane.BRAIN)]


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("plane", "brain_plane"), VIEWS)
def test_the_same_seed_gives_the_same_screen_and_another_seed_another(
    plane: Plane, brain_plane: BrainPlane | None
) -> None:
    first, again, other = (render(plane, SCANNERS[0], rng(s), brain_plane=brain_plane) for s in (1, 1, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.region == again.region
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_the_image_lies_in_its_region_and_the_text_outside(scanner) -> None:
    for seed in range(6):
        screen = render(PLANES[seed], scanner, rng(seed), burned=Burned(header=["CANARY^P000000"] * 6))
        region = screen.region
        assert screen.pixels.shape == (scanner.rows, scanner.columns)
        assert 0 <= region.x0 < region.x1 < scanner.columns
        assert 0 <= region.y0 < region.y1 < scanner.rows
        assert region.x1 - region.x0 > scanner.columns / 4
        assert (screen.pixels[region.slices] > 0).mean() > 0.1
        for name in ("header", "sidebar", "bar"):
            x0, y0, x1, y1 = getattr(scanner, name)
            assert screen.pixels[y0:y1, x0:x1].any(), name
            assert x1 <= region.x0 or x0 > region.x1 or y1 <= region.y0 or y0 > region.y1, name


def test_what_is_around_the_image_does_not_depend_on_it() -> None:
    one, other = (render(plane, SCANNERS[3], rng()) for plane in (Plane.FEMUR, Plane.THORAX))
    assert one.region == other.region
    for screen in (one, other):
        screen.pixels[screen.region.slices] = 0
    assert np.array_equal(one.pixels, other.pixels)


def test_geometry_is_drawn_independently_of_the_plane() -> None:
    for seed in range(10):
        regions = {render(plane, SCANNERS[1], rng(seed)).region for plane in PLANES}
        assert len(regions) == 1


def test_a_sector_is_black_outside_its_beams() -> None:
    recordings = [record(Plane.BRAIN, SCANNERS[1], rng(seed)) for seed in range(20)]
    convex = [recording for recording in recordings if recording.region.convex]
    assert convex
    for recording in convex:
        image = recording.image()
        assert image[0, 0] == image[0, -1] == 0


def test_text_inside_the_region_changes_pixels_only_there() -> None:
    clean = render(Plane.FEMUR, SCANNERS[0], rng())
    dirty = render(Plane.FEMUR, SCANNERS[0], rng(), burned=Burned(inside=["CANARY^P0A3F91"]))
    changed = clean.pixels != dirty.pixels
    assert 50 < changed.sum() < 5000
    changed[clean.region.slices] = False
    assert not changed.any()


def test_calipers_change_the_image() -> None:
    clean = render(Plane.FEMUR, SCANNERS[0], rng())
    measured = render(Plane.FEMUR, SCANNERS[0], rng(), burned=Burned(calipers=True))
    assert (clean.pixels != measured.pixels).any()


def test_a_colour_screen_shows_a_grey_image_and_coloured_text() -> None:
    screen = render(Plane.BRAIN, SCANNERS[1], rng(), burned=Burned(header=["CANARY^P000000"]), colour=True)
    image = screen.pixels[screen.region.slices]
    assert screen.pixels.ndim == 3
    assert np.ptp(image.astype(int), axis=2).max() == 0
    assert np.ptp(screen.pixels.astype(int), axis=2).max() > 50


def test_the_network_sized_sector_is_the_screen_s_region() -> None:
    small = render_sector(Plane.ABDOMEN, rng(9), (288, 224), scanners=SCANNERS[:1])
    assert small.shape == (288, 224)
    assert small.dtype == np.uint8
    source = rng(9)
    source.integers(1)
    screen = render(Plane.ABDOMEN, SCANNERS[0], source)
    expected = cv2.resize(screen.pixels[screen.region.slices], (224, 288), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.97


def test_held_back_scanners_are_never_drawn() -> None:
    all_of_them = [render_sector(Plane.BRAIN, rng(seed), (32, 32)) for seed in range(12)]
    some = [render_sector(Plane.BRAIN, rng(seed), (32, 32), scanners=SCANNERS[:2]) for seed in range(12)]
    again = [render_sector(Plane.BRAIN, rng(seed), (32, 32), scanners=SCANNERS[:2]) for seed in range(12)]
    assert all(np.array_equal(a, b) for a, b in zip(some, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(some, all_of_them, strict=True))


def test_a_cine_moves_smoothly_from_its_still_image_and_repeats() -> None:
    recording = record(Plane.THORAX, SCANNERS[0], rng())
    frames = list(recording.frames(CYCLE + 2))
    assert np.array_equal(frames[0], recording.screen().pixels)
    assert np.array_equal(frames[0], frames[CYCLE])
    assert np.array_equal(frames[1], frames[CYCLE + 1])
    blurred = [cv2.GaussianBlur(frame, (0, 0), 3).astype(int) for frame in frames]
    step = np.mean([np.abs(blurred[n] - blurred[n + 1]).mean() for n in range(CYCLE)])
    far = np.abs(blurred[0] - blurred[CYCLE // 4]).mean()
    assert 0 < step < far


def test_scanners_differ_and_are_marked_as_simulated() -> None:
    assert len(SCANNERS) >= 6
    for attribute in ("name", "manufacturer", "model", "software", "serial", "look", "area"):
        assert len({getattr(scanner, attribute) for scanner in SCANNERS}) == len(SCANNERS)
    assert all(scanner.manufacturer.startswith("SIMULATED ") for scanner in SCANNERS)
    assert all(scanner.serial.startswith("CANARY") for scanner in SCANNERS)


def test_a_brain_plane_needs_the_brain_and_planes_must_be_known() -> None:
    with pytest.raises(ContractError, match="only with the plane brain"):
        render(Plane.FEMUR, SCANNERS[0], rng(), brain_plane=BrainPlane.OTHER)
    with pytest.raises(ContractError, match="six standard"):
        render(Plane.UNKNOWN, SCANNERS[0], rng())
    with pytest.raises(ContractError, match="brain plane among"):
        render(Plane.BRAIN, SCANNERS[0], rng(), brain_plane=BrainPlane.UNKNOWN)
    with pytest.raises(ContractError, match="alpha, beta"):
        find_scanner("none of them")
