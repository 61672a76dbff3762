"""Equal images are found in other files, nearly equal ones by their hash and proven by their detail."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.learning.duplicates import (
    CANDIDATE_BITS,
    SIMILAR,
    Pair,
    candidate_pairs,
    detail,
    exact_pairs,
    perceptual_hash,
    pixel_digest,
    similarity,
)
from fetalmlops.domain.simulation import SCANNERS, render
from support.datasets import entry, picture

CHANGES = {
    "jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 0),
    "smaller": lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.15, beta=5),
    "shifted": lambda image: np.roll(image, 3, 1),
}


def _screens(count: int = 6) -> list[np.ndarray]:
    return [render(Plane.BRAIN, SCANNERS[0], np.random.default_rng(seed)).pixels for seed in range(count)]


def _bits(first: np.ndarray, second: np.ndarray) -> int:
    return (int(perceptual_hash(first), 16) ^ int(perceptual_hash(second), 16)).bit_count()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_candidate_and_similar(change: str) -> None:
    for screen in _screens():
        changed = CHANGES[change](screen)
        assert pixel_digest(changed) != pixel_digest(screen)
        assert _bits(screen, changed) <= CANDIDATE_BITS
        assert similarity(detail(screen), detail(changed)) >= SIMILAR


def test_other_images_of_one_scanner_and_plane_are_not_similar() -> None:
    for first, second in itertools.combinations(_screens(), 2):
        assert similarity(detail(first), detail(second)) < SIMILAR


def test_the_same_screen_around_dark_images_does_not_make_them_similar() -> None:
    rng = np.random.default_rng(2)
    surround = rng.integers(0, 256, (400, 500), np.uint8)
    screens = []
    for _ in range(2):
        screen = surround.copy()
        screen[40:360, 50:450] = cv2.resize(rng.integers(0, 20, (40, 50), np.uint8), (400, 320))
        screens.append(screen)
    first, second = (detail(screen) for screen in screens)
    assert similarity(first, second) < SIMILAR / 2


def test_a_digest_names_pixels_and_size() -> None:
    image = picture(1)
    assert pixel_digest(image) == pixel_digest(np.asfortranarray(image))
    assert pixel_digest(image) != pixel_digest(image.reshape(80, 60))


def test_exact_pairs_are_each_copy_with_the_first() -> None:
    images = [entry(number) for number in range(5)]
    images[3] = entry(3, pixels=images[1].pixels)
    images[4] = entry(4, pixels=images[1].pixels)
    assert exact_pairs(images) == [Pair(1, 3), Pair(1, 4)]


def test_candidates_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(5)
    hashes = [int(value) for value in rng.integers(0, 1 << 63, 1500, np.int64)]
    hashes[1400] = hashes[3] ^ 0b1011
    hashes[700] = hashes[699]
    images = [entry(number, hash=f"{value:016x}") for number, value in enumerate(hashes)]

    found = candidate_pairs(images, bits=10)

    plain = [
        Pair(first, second, (hashes[first] ^ hashes[second]).bit_count())
        for first, second in itertools.combinations(range(len(hashes)), 2)
        if (hashes[first] ^ hashes[second]).bit_count() <= 10
    ]
    assert sorted(found) == plain
    assert found[:2] == [Pair(699, 700, 0), Pair(3, 1400, 3)]


def test_equal_pixels_are_no_candidates() -> None:
    first = entry(1)
    assert candidate_pairs([first, entry(2, hash=first.hash, pixels=first.pixels)]) == []


def test_a_flat_image_has_a_hash_and_no_detail() -> None:
    black = np.zeros((40, 40), np.uint8)
    assert len(perceptual_hash(black)) == 16
    assert similarity(detail(black), detail(black)) == 0
