"""Variation of training images."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fetalmlops.training.augmentation import Scene, augment
from fetalmlops.training.recipe import Augmentation

NOTHING = Augmentation(**dict.fromkeys(Augmentation.__struct_fields__, 0.0))


def scene(seed: int = 0, outside: int = 0) -> Scene:
    sector = np.zeros((60, 80), np.uint8)
    sector[10:50, 20:60] = 1
    grey = np.random.default_rng(seed).integers(60, 180, (60, 80), dtype=np.uint8)
    return Scene(np.where(sector > 0, grey, outside).astype(np.uint8), sector)


def varied(how: Augmentation, seed: int = 1, other: Scene | None = None) -> np.ndarray:
    return augment(scene(), other or scene(9, outside=33), how, np.random.default_rng(seed))


def test_nothing_asked_for_changes_nothing() -> None:
    np.testing.assert_allclose(varied(NOTHING).astype(int), scene().frame, atol=1)


@pytest.mark.parametrize("field", Augmentation.__struct_fields__)
def test_every_step_does_something_and_repeats_itself(field: str) -> None:
    strength = 8.0 if field in {"turn", "noise"} else 1.0
    how = msgspec.structs.replace(NOTHING, **{field: strength})
    if field in {"blur", "blurred"}:
        how = msgspec.structs.replace(NOTHING, blur=2.0, blurred=1.0)
    images = [varied(how, seed) for seed in range(8)]
    assert any(np.abs(image.astype(int) - scene().frame).max() > 5 for image in images)
    np.testing.assert_array_equal(images[0], varied(how, 0))


@pytest.mark.parametrize("field", ["gamma", "gain", "attenuation", "speckle", "shadows", "noise"])
def test_what_sound_does_stays_inside_the_sector(field: str) -> None:
    image = varied(msgspec.structs.replace(NOTHING, **{field: 1.0}))
    assert (image[scene().sector == 0] == 0).all()


def test_backmix_takes_the_surroundings_of_another_image_and_leaves_the_sector() -> None:
    image = varied(msgspec.structs.replace(NOTHING, background=1.0))
    inside = scene().sector > 0
    np.testing.assert_array_equal(image[inside], scene().frame[inside])
    assert (image[~inside] == 33).all()


def test_a_flip_mirrors() -> None:
    image = varied(msgspec.structs.replace(NOTHING, flip=1.0))
    np.testing.assert_allclose(image[:, ::-1].astype(int), scene().frame, atol=1)


def test_the_scene_itself_stays_as_it_is() -> None:
    one, before = scene(), scene().frame.copy()
    augment(one, scene(9), Augmentation(), np.random.default_rng(0))
    np.testing.assert_array_equal(one.frame, before)
