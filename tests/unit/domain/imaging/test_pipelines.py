from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import simplejpeg
from pydicom import uid

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.errors import PermanentError, SettingsError
from fetalmlops.domain.imaging.colour import ColourFlow, Mode
from fetalmlops.domain.imaging.geometry import Box, Geometry
from fetalmlops.domain.imaging.harmonise import Harmonisation, ScannerLevels, harmonise
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.normalize import Pipeline
from fetalmlops.domain.imaging.overlays import OverlayRemoval, fill, find_overlays
from fetalmlops.domain.imaging.pipelines import HARMONISED, PIPELINES, PLAIN, find_pipeline
from fetalmlops.domain.imaging.sampling import Spread, sample
from fetalmlops.domain.imaging.screens import open_screen
from fetalmlops.domain.imaging.sector import SectorSearch, Shape, find_sector
from fetalmlops.domain.simulation import (
    SCANNERS,
    Burned,
    InstanceSpec,
    Kind,
    Layout,
    Photometric,
    make_instance,
    render,
)
from fetalmlops.domain.simulation.instances import stored_frames
from fetalmlops.domain.simulation.rendering import _scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.simulation import Scanner

FULL = find_pipeline(HARMONISED)
EVERY_SCANNER = pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)


def image_of(scanner: Scanner, seed: int = 0, plane: Plane = Plane.ABDOMEN, **burned: object) -> NDArray[np.uint8]:
    screen = render(plane, scanner, np.random.default_rng(seed), burned=Burned(**burned))
    return screen.pixels[screen.region.slices]


def test_the_demonstration_bundle_keeps_its_pipeline() -> None:
    """The digest that its lineage cites; the frames are held by the test of the code version."""
    assert find_pipeline(PLAIN).digest == "d9788963f6ac40a4c51539d1e1b4e3b847775f00591ee7591b23924305922655"
    assert len({pipeline.digest for pipeline in PIPELINES.values()}) == len(PIPELINES)


def test_an_unknown_pipeline_is_refused() -> None:
    with pytest.raises(SettingsError, match="plain, harmonised"):
        find_pipeline("best")


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless],
)
@pytest.mark.parametrize("photometric", [Photometric.MONOCHROME2, Photometric.RGB])
def test_dicom_and_png_give_the_same_frames(name: str, syntax: str, photometric: Photometric) -> None:
    spec = InstanceSpec(
        plane=Plane.BRAIN, transfer_syntax=syntax, layout=Layout(photometric=photometric), calipers=True
    )
    image = open_image(io.BytesIO(make_instance(spec).data))
    stored = find_pipeline(name).run(image)
    pixels = next(iter(stored_frames(spec)))
    _, png = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[..., ::-1])
    plain = find_pipeline(name).run(open_screen(png.tobytes(), image.geometry))
    assert np.array_equal(stored.frames, plain.frames)
    assert (stored.quality, stored.spacing, stored.sector) == (plain.quality, plain.spacing, plain.sector)
    assert stored.spacing is not None


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("coloured", [False, True])
def test_a_good_jpeg_gives_nearly_the_same_frames(name: str, coloured: bool) -> None:
    screen = render(Plane.BRAIN, SCANNERS[0], np.random.default_rng(1), colour=coloured)
    region = screen.region
    geometry = Geometry(Box(region.y0, region.x0, region.y1 + 1, region.x1 + 1), (0.1, 0.1))
    pixels = screen.pixels if coloured else screen.pixels[..., None]
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 97, "RGB" if coloured else "GRAY", "444")
    _, png = cv2.imencode(".png", screen.pixels[..., ::-1] if coloured else screen.pixels)
    one, other = (find_pipeline(name).run(open_screen(data, geometry)).frames for data in (bytes(jpeg), png.tobytes()))
    assert np.abs(one.astype(int) - other).mean() < 2.0


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff\xd9"])
def test_other_bytes_are_no_screen(data: bytes) -> None:
    with pytest.raises(PermanentError):
        open_screen(data)


@pytest.mark.parametrize(("total", "most", "spread"), itertools.product([1, 7, 64, 65, 999], [1, 7, 64], Spread))
def test_sampling_is_bounded_increasing_and_even(total: int, most: int, spread: Spread) -> None:
    numbers = sample(total, most, spread)
    assert len(numbers) == min(total, most)
    assert numbers[0] >= 1
    assert numbers[-1] <= total
    steps = np.diff(numbers)
    assert not len(steps) or (steps.min() >= 1 and np.ptp(steps) <= 1)


@EVERY_SCANNER
@pytest.mark.parametrize("seed", [3, 4, 5])
@pytest.mark.parametrize("drawn", [False, True])
def test_the_sector_is_found_or_the_whole_box_counts(scanner: Scanner, seed: int, drawn: bool) -> None:
    view, _, _ = _scene(Plane.ABDOMEN, scanner, np.random.default_rng(seed), None)
    beams, depths = view.lookup(512, 128)
    truth = (beams >= 0) & (beams <= 127) & (depths >= 0) & (depths <= 511)
    found = find_sector(image_of(scanner, seed, calipers=drawn, inside=("AB 12",) if drawn else ()))
    assert found.shape in (Shape.WHOLE, Shape.CONVEX if view.sector.convex else Shape.LINEAR)
    # Where the sides of a fan are dark all the way, as in fluid, it comes out too narrow; nothing that is bright is lost.
    assert (found.mask & truth).sum() > 0.7 * truth.sum()
    image = image_of(scanner, seed)
    assert (found.mask & (image > 40)).sum() > 0.9 * (image > 40).sum()


def test_most_sectors_are_found() -> None:
    found = [find_sector(image_of(scanner, seed)).shape for scanner in SCANNERS for seed in range(6)]
    assert found.count(Shape.WHOLE) <= 0.15 * len(found)
    assert {Shape.CONVEX, Shape.LINEAR} < set(found) | {Shape.WHOLE}


@pytest.mark.parametrize("level", [0, 255])
def test_a_frame_without_a_sector_is_taken_whole(level: int) -> None:
    assert find_sector(np.full((90, 120), level, np.uint8)).mask.all()


def test_the_apex_and_the_angles_of_a_fan_are_right() -> None:
    view, _, _ = _scene(Plane.ABDOMEN, SCANNERS[3], np.random.default_rng(0), None)
    found = find_sector(image_of(SCANNERS[3]))
    apex = view.origin[1] - view.box[1] - view.sector.radius * view.scale, view.origin[0] - view.box[0]
    assert found.apex == pytest.approx(apex, abs=12)
    assert np.abs(found.angles) == pytest.approx([view.sector.half_angle] * 2, abs=0.06)


@EVERY_SCANNER
@pytest.mark.parametrize("plane", [Plane.BRAIN, Plane.FEMUR, Plane.THORAX])
def test_clean_frames_are_not_touched(scanner: Scanner, plane: Plane) -> None:
    image = image_of(scanner, 5, plane)
    assert find_overlays(image, OverlayRemoval()).sum() < 0.005 * find_sector(image).mask.sum()


@EVERY_SCANNER
def test_calipers_and_writing_are_filled(scanner: Scanner) -> None:
    clean = image_of(scanner, 2).astype(int)
    image = image_of(scanner, 2, calipers=True, inside=("AB 12", "CD"))
    drawn = image - clean > 60
    filled = fill(image, find_overlays(image, OverlayRemoval()), OverlayRemoval())
    assert np.abs(filled - clean)[drawn].mean() < 0.6 * np.abs(image - clean)[drawn].mean()


def test_a_colour_box_is_told_and_does_not_saturate() -> None:
    grey = image_of(SCANNERS[3])
    rgb = np.dstack([grey] * 3)
    rgb[150:220, 300:400] = (255, 220, 0)
    result = FULL.run_array(rgb, sector=Box(0, 0, *grey.shape))
    assert result.mode is Mode.COLOUR
    assert result.quality.colour_share == pytest.approx(7000 / FULL.run_array(grey).sector.mask.sum(), rel=0.1)
    shown = Pipeline(colour=ColourFlow()).run_array(rgb, sector=Box(0, 0, *grey.shape))
    assert shown.quality.saturation < 0.02
    assert (
        shown.frames[0][shown.frames.shape[1] * 185 // grey.shape[0], shown.frames.shape[2] * 350 // grey.shape[1]] < 30
    )


@EVERY_SCANNER
def test_a_tinted_grey_map_is_no_doppler(scanner: Scanner) -> None:
    grey = image_of(scanner)
    tinted = np.dstack([grey, grey, grey // 8 * 7])
    assert FULL.run_array(tinted, sector=Box(0, 0, *grey.shape)).mode is Mode.B_MODE


def test_harmonised_scanners_are_nearer_to_each_other() -> None:
    images = [image_of(scanner, 4) for scanner in SCANNERS]
    medians = [np.median(image[image > 8]) for image in images]
    after = [harmonise(image, image > 8, Harmonisation()) for image in images]
    assert np.std([np.median(image[image > 8]) for image in after]) < 0.3 * np.std(medians)


def test_a_known_scanner_is_judged_by_its_table() -> None:
    levels = (*range(0, 256, 16), 255)
    rule = Harmonisation(scanners=(ScannerLevels(scanner="a", levels=levels),))
    frame = np.full((32, 32), 128, np.uint8)
    frame[0, 0] = 90
    mask = np.ones_like(frame, np.bool_)
    assert harmonise(frame, mask, rule, "a")[5, 5] == rule.levels[8]
    assert harmonise(frame, mask, rule, "b")[5, 5] == harmonise(frame, mask, Harmonisation())[5, 5]


@pytest.mark.parametrize("level", [0, 1, 77])
def test_blank_frames_are_told(level: int) -> None:
    for pipeline in PIPELINES.values():
        assert pipeline.run_array(np.full((80, 90), level, np.uint8)).quality.blank_share == 1.0
        assert pipeline.run_array(image_of(SCANNERS[0])).quality.blank_share == 0.0


def test_the_full_pipeline_is_deterministic_over_a_cine() -> None:
    spec = InstanceSpec(kind=Kind.ULTRASOUND_MULTIFRAME, frames=5, calipers=True, scanner=SCANNERS[1])
    data = make_instance(spec).data
    one, other = (FULL.run(open_image(io.BytesIO(data))) for _ in range(2))
    assert np.array_equal(one.frames, other.frames)
    assert one.quality == other.quality
    assert 0 < one.quality.overlay_share < 0.02


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (SectorSearch, {"black_level": 255}),
        (ColourFlow, {"chroma": 0}),
        (OverlayRemoval, {"surround": 4}),
        (Harmonisation, {"strength": 2.0}),
        (Harmonisation, {"levels": (0, 255)}),
    ],
)
def test_parameters_of_steps_out_of_range_are_refused(kind: type, parameters: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        kind(**parameters)
