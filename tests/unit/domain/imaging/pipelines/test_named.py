from __future__ import annotations

import io

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import SectorShape
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.cleaning.colour import ColourFlow
from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval
from fetalmlops.domain.imaging.geometry.sector import SectorSearch
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.imaging.pipelines import HARMONISED, PIPELINES, PLAIN, find_pipeline
from fetalmlops.domain.imaging.pipelines.harmonise import Harmonisation
from fetalmlops.domain.simulation import (
    SCANNERS,
    InstanceSpec,
    Kind,
    make_instance,
)
from support.phantoms import image_of

FULL = find_pipeline(HARMONISED)


def test_the_demonstration_bundle_keeps_its_pipeline() -> None:
    """The digest that its lineage cites; the frames are held by the test of the code version."""
    assert find_pipeline(PLAIN).digest == "d9788963f6ac40a4c51539d1e1b4e3b847775f00591ee7591b23924305922655"
    assert len({pipeline.digest for pipeline in PIPELINES.values()}) == len(PIPELINES)


def test_an_unknown_pipeline_is_refused() -> None:
    with pytest.raises(SettingsError, match="plain, harmonised"):
        find_pipeline("best")


@pytest.mark.parametrize("level", [0, 1, 77])
def test_blank_frames_are_told(level: int) -> None:
    for pipeline in PIPELINES.values():
        assert pipeline.run_array(np.full((80, 90), level, np.uint8)).quality.blank_share == 1.0
        assert pipeline.run_array(image_of(SCANNERS[0])).quality.blank_share == 0.0


def test_a_screen_filled_to_its_edges_is_no_linear_probe() -> None:
    filled = np.random.default_rng(0).integers(30, 200, (200, 300), dtype=np.uint8)
    assert FULL.run_array(filled).sector.shape is SectorShape.NONE
    inside = np.pad(filled, 40)
    assert FULL.run_array(inside).sector.shape is SectorShape.RECTANGLE


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
