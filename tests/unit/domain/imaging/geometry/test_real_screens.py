"""On real screens, where they are at hand: the crop and the sector keep the tissue."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import SectorShape
from fetalmlops.domain.imaging.geometry import find_content
from fetalmlops.domain.imaging.geometry.sector import find_sector
from fetalmlops.domain.imaging.pipelines import HARMONISED, find_pipeline
from fetalmlops.domain.imaging.pipelines.screens import open_screen

DATA = Path(__file__).parents[6] / "shared" / "data"
PIPELINE = find_pipeline(HARMONISED)


def kept(path: Path) -> tuple[float, SectorShape]:
    """Share of the bright tissue, strokes and writing left out, that crop and mask keep; and the sector's shape."""
    pixels = open_screen(path.read_bytes()).pixels
    tissue = cv2.morphologyEx(cv2.medianBlur(pixels, 7), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)) > 25
    box = find_content([pixels], PIPELINE.black_level, PIPELINE.layer_part)
    sector = find_sector(box.crop(pixels), PIPELINE.mask)
    return float((box.crop(tissue) & sector.mask).sum() / tissue.sum()), sector.shape


@pytest.mark.parametrize("folder", ["fetal_planes", "hc18"])
def test_tissue_of_real_screens_is_kept(folder: str) -> None:
    paths = sorted((DATA / folder / "images").glob("*.png"))
    if not paths:
        pytest.skip(f"no images of {folder} at hand")
    shares, shapes = zip(*(kept(path) for path in paths), strict=True)
    # The least ones are screens of vessels, whose writing is large enough to look like tissue.
    assert min(shares) > 0.85
    assert np.mean(shares) > 0.98
    if folder == "hc18":
        assert shapes.count(SectorShape.FAN) > 0.7 * len(shapes)
