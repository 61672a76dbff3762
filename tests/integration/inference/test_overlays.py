"""Pictures of results: drawn and kept by policy, cited in the event, and gone with their lifetime."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fetalmlops.classifier.overlays import Overlays
from fetalmlops.domain.contracts.planes import Decision
from fetalmlops.keeper.retention import delete_expired
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import KeeperSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLACE = "2020-01-01T00/result"
NUMBERS = [3, 7]


@pytest.mark.parametrize("policy", ["none", "review", "all"])
async def test_the_policy_decides_whose_picture_is_kept(
    serving: Callable, frames: np.ndarray, tmp_path: Path, policy: str
) -> None:
    objects = open_objects(Settings(home=tmp_path))
    noise = np.random.default_rng(0).integers(0, 256, (2, 300, 400), dtype=np.uint8)
    kept = {}
    async with serving() as (_, target), InferenceClient(target) as client:
        for pixels in (np.repeat(frames[1:2], 2, axis=0), noise):
            found = await client.classify([pixels], NUMBERS)
            ref = await Overlays(objects, policy).keep(PLACE, found, [pixels], NUMBERS)
            kept[found.decision] = ref
    wanted = {
        "none": {Decision.ACCEPT: False, Decision.OUT_OF_SCOPE: False},
        "review": {Decision.ACCEPT: False, Decision.OUT_OF_SCOPE: True},
        "all": {Decision.ACCEPT: True, Decision.OUT_OF_SCOPE: True},
    }[policy]
    assert {decision: ref is not None for decision, ref in kept.items()} == wanted


async def test_the_picture_shows_the_best_frame_and_goes_with_its_lifetime(
    serving: Callable, frames: np.ndarray, tmp_path: Path
) -> None:
    objects = open_objects(Settings(home=tmp_path))
    black = np.zeros_like(frames[1:2])
    async with serving() as (_, target), InferenceClient(target) as client:
        found = await client.classify([black, frames[1:2]], NUMBERS)
        assert found.best_frame == NUMBERS[1]
        ref = await Overlays(objects, "all").keep(PLACE, found, [black, frames[1:2]], NUMBERS)
        bare = await client.classify([frames[1:2]], [1], want_explanation=False)
        assert await Overlays(objects, "all").keep(PLACE, bare, [frames[1:2]], [1]) is None
    assert ref is not None
    assert (ref.uri, ref.media_type) == (f"clean/overlays/{PLACE}.png", "image/png")
    page = cv2.imdecode(np.frombuffer(objects.get(ref), np.uint8), cv2.IMREAD_GRAYSCALE)
    width = max(260, frames.shape[2])
    height = round(frames.shape[1] * width / frames.shape[2])
    shown = page[12 : 12 + height, 12 : 12 + width]
    np.testing.assert_array_equal(shown, cv2.resize(frames[1], (width, height), interpolation=cv2.INTER_LINEAR))
    await asyncio.sleep(0.01)
    assert delete_expired(objects, KeeperSettings(clean_days=1e-9), ()) == 1
    assert not objects.exists(ref.uri)
