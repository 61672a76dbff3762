"""From images on disk to batches."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.models.manifest import InputSpec
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.learning.datasets import Dataset, open_dataset
from fetalmlops.platform.settings import Settings
from fetalmlops.training.loading.batches import Batches
from fetalmlops.training.loading.frames import Frames, cache_frames
from fetalmlops.training.recipe import decode_recipe

from .conftest import SPEC, striped_frames

RECIPE = decode_recipe(
    b'name = "small"\nversion = "1.0.0"\n[input]\nrows = 48\ncolumns = 64\n[fitting]\nbatch = 8\nepochs = 2\n'
)


def opened(folder: Path) -> Dataset:
    return open_dataset(Settings(home=folder / "home"), folder)


def cached(data: Dataset, folder: Path, spec: InputSpec = SPEC, pipeline: str = "plain") -> Frames:
    return cache_frames(data, find_pipeline(pipeline), spec, folder, lambda done, of: None)


@pytest.mark.parametrize("pipeline", ["plain", "harmonised"])
def test_a_cached_frame_is_standardised_to_what_serving_would_feed(
    phantoms: Path, tmp_path: Path, pipeline: str
) -> None:
    data = opened(phantoms)
    frames = cached(data, tmp_path, pipeline=pipeline)
    for index in (0, 13, 50):
        image = data.manifest.images[index]
        served = find_pipeline(pipeline).run_array(data.read(image), scanner=image.scanner).frames
        np.testing.assert_array_equal(frames.batch([index])[0], prepare(served, SPEC).batch[0])


def test_frames_are_prepared_once(phantoms: Path, tmp_path: Path) -> None:
    data = opened(phantoms)
    first = cached(data, tmp_path)

    class Unread(Dataset):
        def read(self, entry: object) -> np.ndarray:
            raise AssertionError

    again = cached(Unread(data.manifest, data.digest, data.root), tmp_path)
    np.testing.assert_array_equal(first.grey, again.grey)
    np.testing.assert_array_equal(first.sizes, again.sizes)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    with pytest.raises(AssertionError):
        cached(Unread(data.manifest, data.digest, data.root), tmp_path, InputSpec(rows=32, columns=32))


def test_an_image_that_cannot_be_read_leaves_no_cache(phantoms: Path, tmp_path: Path) -> None:
    data = opened(phantoms)
    with pytest.raises(ContractError):
        cached(Dataset(data.manifest, data.digest, tmp_path / "elsewhere"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_images_without_a_label_are_left_out(phantoms: Path, tmp_path: Path) -> None:
    data = opened(phantoms)
    images = [msgspec.structs.replace(image, plane=None, brain_plane=None) for image in data.manifest.images]
    manifest = msgspec.structs.replace(data.manifest, images=[data.manifest.images[0], *images[1:]])
    assert len(cached(Dataset(manifest, data.digest, data.root), tmp_path)) == 1
    with pytest.raises(ContractError, match="label"):
        cached(Dataset(msgspec.structs.replace(manifest, images=images), data.digest, data.root), tmp_path)


def test_batches_are_the_same_whoever_makes_them_and_wherever_one_begins() -> None:
    frames, chosen = striped_frames(60), list(range(40))
    one, two = Batches(frames, chosen, RECIPE), Batches(frames, chosen, RECIPE, threads=3)
    whole, parts = list(one.epoch(1)), [*list(two.epoch(1))[:2], *two.epoch(1, start=2)]
    assert len(whole) == one.steps == 5
    for first, second in zip(whole, parts, strict=True):
        for left, right in zip(first, second, strict=True):
            np.testing.assert_array_equal(left, right)
    assert not np.array_equal(whole[0].frames, next(iter(one.epoch(2))).frames)


def test_several_processes_share_a_batch() -> None:
    frames, chosen = striped_frames(60), list(range(40))
    whole = next(iter(Batches(frames, chosen, RECIPE).epoch(0)))
    shares = [next(iter(Batches(frames, chosen, RECIPE, rank=rank, world=2).epoch(0))) for rank in range(2)]
    for rank, share in enumerate(shares):
        np.testing.assert_array_equal(share.frames, whole.frames[rank::2])
        np.testing.assert_array_equal(share.planes, whole.planes[rank::2])


def test_labels_follow_their_images() -> None:
    frames = striped_frames(60)
    for batch in Batches(frames, list(range(40)), RECIPE).epoch(0):
        assert batch.frames.shape == (8, 48, 64)
        assert ((batch.brain_planes != NO_LABEL) == (batch.planes == PLANES.index("brain"))).all()
