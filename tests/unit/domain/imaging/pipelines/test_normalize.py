from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fetalmlops.domain.contracts.events import Quality
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.imaging.cleaning.colour import ColourFlow
from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval
from fetalmlops.domain.imaging.geometry import Box, Geometry
from fetalmlops.domain.imaging.geometry.resize import fitted, shrink
from fetalmlops.domain.imaging.geometry.sector import SectorSearch
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines import normalize
from fetalmlops.domain.imaging.pipelines.harmonise import Harmonisation
from fetalmlops.domain.imaging.pipelines.normalize import Pipeline
from fetalmlops.domain.imaging.pipelines.sampling import Spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


WHOLE = Geometry()


@dataclass
class Cine:
    """Frames whose level is their number."""

    total_frames: int
    geometry: Geometry = WHOLE
    shape: tuple[int, int] = (60, 80)
    asked: tuple[int, ...] = ()

    def grey(self, number: int) -> NDArray[np.uint8]:
        self.asked = (*self.asked, number)
        return np.full(self.shape, 20 + number % 200, np.uint8)


def test_frames_are_sampled_evenly_and_keep_their_numbers() -> None:
    result = Pipeline().run(Cine(1000))
    numbers = result.frame_numbers
    assert (len(numbers), numbers[0], numbers[-1], result.total_frames) == (64, 1, 1000, 1000)
    assert set(np.diff(numbers)) <= {15, 16}
    assert [int(frame[0, 0]) for frame in result.frames] == [20 + number % 200 for number in numbers]


@pytest.mark.parametrize("total", [1, 2, 63, 64])
def test_a_short_cine_is_taken_whole(total: int) -> None:
    assert Pipeline().run(Cine(total)).frame_numbers == tuple(range(1, total + 1))


@pytest.mark.parametrize("total", [1, 2, 5, 200])
def test_each_sampled_frame_is_decoded_once(total: int) -> None:
    cine = Cine(total)
    result = Pipeline(max_frames=5).run(cine)
    assert sorted(cine.asked) == sorted(result.frame_numbers)


def test_the_sector_is_cropped_and_spacing_follows(
    make_part10: Callable[..., bytes],
    make_region: Callable[..., Dataset],
    make_speckle: Callable[..., NDArray[np.uint8]],
) -> None:
    pixels = make_speckle(120, 160)
    data = make_part10(pixels.tobytes(), (120, 160), SequenceOfUltrasoundRegions=[make_region()])
    result = Pipeline().run(open_image(io.BytesIO(data)))
    assert np.array_equal(result.frames, pixels[np.newaxis, 10:110, 20:140])
    assert result.spacing == pytest.approx((0.2, 0.1))
    assert result.quality.sector_share == pytest.approx(100 * 120 / (120 * 160))
    small = Pipeline(max_side=60).run(open_image(io.BytesIO(data)))
    assert small.frames.shape == (1, 50, 60)
    assert small.spacing == pytest.approx((0.4, 0.2))


def test_an_array_gives_what_the_same_dicom_gives(
    make_part10: Callable[..., bytes], make_speckle: Callable[..., NDArray[np.uint8]]
) -> None:
    pixels = np.ascontiguousarray(np.dstack([make_speckle(600, 800)] * 3))
    data = make_part10(pixels.tobytes(), pixels.shape, PixelSpacing=[0.3, 0.2])
    stored = Pipeline().run(open_image(io.BytesIO(data)))
    plain = Pipeline().run_array(pixels, spacing=(0.3, 0.2))
    assert np.array_equal(stored.frames, plain.frames)
    assert (stored.spacing, stored.quality) == (plain.spacing, plain.quality)


def test_a_given_sector_is_not_searched() -> None:
    pixels = np.zeros((100, 100), np.uint8)
    pixels[40:60, 40:60] = 200
    assert Pipeline().run_array(pixels, sector=Box(0, 0, 50, 100)).frames.shape == (1, 50, 100)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((2, 2, 3, 1), np.uint8),
    ],
)
def test_an_array_of_another_type_or_shape_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(ContractError):
        Pipeline().run_array(pixels)


def test_the_digest_names_every_parameter_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    changed = {name: getattr(pipeline, name) - 1 for name in ("max_frames", "max_side", "black_level")}
    changed |= {"spread": Spread.CENTRES, "mask": SectorSearch(), "colour": ColourFlow()}
    changed |= {"overlays": OverlayRemoval(), "harmonisation": Harmonisation(), "version": 2, "layer_part": 0.1}
    assert changed.keys() == {field.name for field in fields(Pipeline)}
    others = [replace(pipeline, **{name: value}) for name, value in changed.items()]
    digests = {each.digest for each in (pipeline, *others)}
    assert len(digests) == 1 + len(fields(Pipeline))
    assert Pipeline().digest == pipeline.digest
    monkeypatch.setattr(normalize, "CODE_VERSION", normalize.CODE_VERSION + 1)
    assert Pipeline().digest != pipeline.digest


def test_the_output_of_this_code_version_has_not_changed() -> None:
    """Where this fails, the frames have changed: raise CODE_VERSION, then note the new sums here."""
    y, x = np.mgrid[0:600, 0:800]
    pixels = ((x * 7 + y * 13 + x * y // 16) % 256).astype(np.uint8)
    frames = Pipeline().run_array(pixels, sector=Box(30, 11, 593, 789)).frames
    assert normalize.CODE_VERSION == 1
    assert (frames.shape, int(frames.sum()), zlib.crc32(frames.tobytes())) == ((1, 371, 512), 24_211_966, 0xF8137D51)


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_frames": 0},
        {"max_frames": 65},
        {"max_side": 0},
        {"max_side": 513},
        {"black_level": -1},
        {"black_level": 255},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        Pipeline(**parameters)


def test_quality_figures() -> None:
    step = np.zeros((64, 64), np.uint8)
    step[:, 32:] = 255
    quality = Pipeline().run_array(step, sector=Box(0, 0, 64, 64)).quality
    assert quality == Quality(
        brightness=0.5, contrast=0.5, sharpness=round(1 / 62, 6), saturation=0.5, sector_share=1.0, overlay_share=0.0
    )


def test_quality_is_the_median_over_frames() -> None:
    result = Pipeline().run(Cine(5, Geometry(Box(0, 0, 60, 80))))
    assert result.quality.brightness == pytest.approx(23 / 255, abs=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2000), (2000, 1), (2, 1500), (513, 512)])
def test_extreme_shapes_pass(rows: int, columns: int) -> None:
    result = Pipeline().run_array(np.full((rows, columns), 77, np.uint8))
    assert result.frames.shape[1:] == fitted(rows, columns, 512)
    assert (result.frames == 77).all()


@pytest.mark.parametrize("factor", [1.9, 2.0, 2.7, 4.3])
def test_shrinking_removes_what_cannot_be_shown(factor: float) -> None:
    finest = np.tile(np.array([0, 255], np.uint8), (600, 300))
    size = round(600 / factor)
    assert shrink(finest, size, size).std() < 0.35 * finest.std()


@pytest.mark.parametrize("factor", [1.2, 1.55, 1.9, 2.0, 2.7, 4.3])
def test_shrinking_keeps_what_can_be_shown(factor: float) -> None:
    def waves(size: int) -> NDArray[np.float64]:
        return np.tile(127.5 + 100 * np.sin(2 * np.pi * (np.arange(size) + 0.5) / size * 8), (size, 1))

    size = round(600 / factor)
    assert np.abs(shrink(waves(600).astype(np.uint8), size, size) - waves(size)).mean() < 3


def test_shrinking_to_the_same_size_changes_nothing(make_speckle: Callable[..., NDArray[np.uint8]]) -> None:
    frame = make_speckle(50, 70)
    assert np.array_equal(shrink(frame, 50, 70), frame)
