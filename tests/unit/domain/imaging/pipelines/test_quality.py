"""Each figure rises with what it is named after, on phantoms of every scanner, and with nothing else that is easily told."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import HARMONISED, PLAIN, find_pipeline
from support.phantoms import EVERY_SCANNER, image_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import Quality
    from fetalmlops.domain.simulation import Scanner


def figures(image: NDArray[np.uint8], pipeline: str = PLAIN) -> Quality:
    return find_pipeline(pipeline).run_array(image, sector=Box(0, 0, *image.shape[:2])).quality


def rises(values: Sequence[float]) -> bool:
    return all(low < high for low, high in pairwise(values))


def gained(image: NDArray[np.uint8], gain: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.convertScaleAbs(image, alpha=gain))


@EVERY_SCANNER
@pytest.mark.parametrize("pipeline", [PLAIN, HARMONISED])
def test_sharpness_falls_with_blur(scanner: Scanner, pipeline: str) -> None:
    image = image_of(scanner, 2)
    blurred = [cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (6.0, 3.0, 1.5)]
    assert rises([figures(each, pipeline).sharpness for each in (*blurred, image)])


@EVERY_SCANNER
def test_brightness_and_saturation_rise_with_gain(scanner: Scanner) -> None:
    image = image_of(scanner, 2)
    found = [figures(gained(image, gain)) for gain in (0.5, 1.0, 2.0, 4.0)]
    assert rises([each.brightness for each in found])
    assert rises([each.saturation for each in found[1:]])
    assert found[0].saturation == 0


@EVERY_SCANNER
def test_contrast_falls_as_levels_draw_together(scanner: Scanner) -> None:
    image = image_of(scanner, 2).astype(np.float64)
    drawn = [np.rint(128 + (image - 128) * part).astype(np.uint8) for part in (0.1, 0.3, 0.6, 1.0)]
    found = [figures(each) for each in drawn]
    assert rises([each.contrast for each in found])
    assert found[0].blank_share == 0


@EVERY_SCANNER
def test_after_harmonisation_gain_hardly_shows(scanner: Scanner) -> None:
    """Brightness is a figure of the frames, so where levels are evened out it says little of the scanner's gain."""
    image = image_of(scanner, 2)
    low, high = image, gained(image, 1.4)
    plain = figures(high).brightness - figures(low).brightness
    evened = figures(high, HARMONISED).brightness - figures(low, HARMONISED).brightness
    assert plain > 0
    assert abs(evened) < plain / 2


@EVERY_SCANNER
def test_overlay_share_rises_with_writing(scanner: Scanner) -> None:
    image = image_of(scanner, 2)
    found = []
    for lines in range(4):
        written = image.copy()
        for line in range(lines):
            place = (image.shape[1] // 3, image.shape[0] // 3 + 40 * line)
            cv2.putText(written, "ABDOMEN 12 CM", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
        found.append(figures(written, HARMONISED).overlay_share)
    assert rises(found)
    assert found[0] < 0.005
    assert found[-1] < 0.1


@EVERY_SCANNER
def test_sector_share_falls_with_the_size_of_the_screen_around_it(scanner: Scanner) -> None:
    image = image_of(scanner, 2)
    shares = []
    for margin in (200, 100, 0):
        screen = np.pad(image, margin)
        box = Box(margin, margin, margin + image.shape[0], margin + image.shape[1])
        shares.append(
            [find_pipeline(name).run_array(screen, sector=box).quality.sector_share for name in (PLAIN, HARMONISED)]
        )
    assert rises([plain for plain, _ in shares])
    assert rises([full for _, full in shares])
    assert shares[-1][0] == 1.0


@EVERY_SCANNER
def test_colour_share_rises_with_the_colour_box(scanner: Scanner) -> None:
    grey = image_of(scanner, 2)
    found = []
    for side in (0, 40, 80, 120):
        rgb = np.dstack([grey] * 3)
        top, left = grey.shape[0] // 2, grey.shape[1] // 2 - side // 2
        rgb[top : top + side, left : left + side] = (230, 30, 0)
        found.append(figures(rgb, HARMONISED).colour_share)
    assert rises(found)
    assert found[0] == 0
