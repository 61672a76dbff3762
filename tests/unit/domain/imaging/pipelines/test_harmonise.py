from __future__ import annotations

import numpy as np

from fetalmlops.domain.imaging.pipelines.harmonise import Harmonisation, ScannerLevels, harmonise
from fetalmlops.domain.simulation import (
    SCANNERS,
)
from support.phantoms import image_of


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


def test_what_is_nearly_black_stays_dark() -> None:
    """In a frame that is mostly fluid, ranks alone would make grey texture of its noise."""
    frame = np.random.default_rng(0).integers(9, 14, (100, 100), dtype=np.uint8)
    frame[:20] = 180
    mask = np.ones_like(frame, np.bool_)
    ranked = harmonise(frame, mask, Harmonisation(steepest=255.0))
    limited = harmonise(frame, mask, Harmonisation())
    assert ranked[20:].max() > 90
    assert limited[20:].max() <= 8 + 3 * 5
    order = np.argsort(frame, axis=None, kind="stable")
    assert (np.diff(limited.ravel()[order].astype(int)) >= 0).all()
