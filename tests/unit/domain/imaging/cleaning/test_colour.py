from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import FrameMode
from fetalmlops.domain.imaging.cleaning.colour import ColourFlow
from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import HARMONISED, find_pipeline
from fetalmlops.domain.imaging.pipelines.normalize import Pipeline
from fetalmlops.domain.simulation import (
    SCANNERS,
)
from support.phantoms import EVERY_SCANNER, image_of

if TYPE_CHECKING:
    from fetalmlops.domain.simulation import Scanner

FULL = find_pipeline(HARMONISED)


def test_a_colour_box_is_told_and_does_not_saturate() -> None:
    grey = image_of(SCANNERS[3])
    rgb = np.dstack([grey] * 3)
    rgb[150:220, 300:400] = (255, 220, 0)
    result = FULL.run_array(rgb, sector=Box(0, 0, *grey.shape))
    assert result.mode is FrameMode.COLOUR
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
    assert FULL.run_array(tinted, sector=Box(0, 0, *grey.shape)).mode is FrameMode.B_MODE
