"""Fitting: it learns, repeats itself, and goes on where it stopped; needs the train extra."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")

from fetalmlops.domain.contracts.planes import PLANES  # noqa: E402
from fetalmlops.domain.errors import SettingsError  # noqa: E402
from fetalmlops.domain.learning.foreign import foreign_images  # noqa: E402
from fetalmlops.domain.learning.manifest import Split  # noqa: E402
from fetalmlops.training.checkpoints import Checkpoints, State  # noqa: E402
from fetalmlops.training.evaluation import macro_f1  # noqa: E402
from fetalmlops.training.fitting import fit, run  # noqa: E402
from fetalmlops.training.loading.batches import Batches  # noqa: E402
from fetalmlops.training.networks import make_network  # noqa: E402
from fetalmlops.training.places import Place  # noqa: E402
from fetalmlops.training.predicting import of_split  # noqa: E402
from fetalmlops.training.recipe import Recipe, decode_recipe  # noqa: E402

from .conftest import striped_frames  # noqa: E402

pytestmark = pytest.mark.torch


class StoppedError(Exception):
    pass


class Watch:
    def __init__(self, stop: int = 0) -> None:
        self.stop, self.losses = stop, []

    def step(self, done: int, of: int, loss: float) -> None:
        if done == self.stop:
            raise StoppedError

    def epoch(self, number: int, figures: dict[str, float]) -> None:
        self.losses.append(figures["loss"])


def recipe(epochs: int, augmentation: str = "") -> Recipe:
    text = f"""name = "small"
version = "1.0.0"
network = {{ widths = [8, 16, 24] }}
input = {{ rows = 48, columns = 64 }}
fitting = {{ epochs = {epochs}, batch = 12, checkpoint_steps = 2 }}
{augmentation}"""
    return decode_recipe(text.encode())


def fitted(folder: Path, how: Recipe, watch: Watch) -> tuple[torch.nn.Module, State]:
    frames = striped_frames()
    torch.manual_seed(how.seed)
    network = make_network(how.network)
    validation = of_split(frames, Split.VALIDATION)
    labels = np.array([PLANES.index(frames.images[index].plane) for index in validation])

    def judge(network: torch.nn.Module) -> float:
        return macro_f1(run(network, frames, validation).logits.argmax(axis=1), labels)

    batches = Batches(frames, of_split(frames, Split.TRAIN), how)
    place = Place(torch.device("cpu"))
    return network, fit(network, batches, how.fitting, place, judge, Checkpoints(folder, "one"), watch)


def test_fitting_learns_what_it_is_shown(tmp_path: Path) -> None:
    watch = Watch()
    how = recipe(12, "augmentation = { turn = 0.0, flip = 0.0, shift = 0.0, scale = 0.0, shadows = 0.0, strips = 0.0 }")
    _, state = fitted(tmp_path, how, watch)
    assert watch.losses[-1] < watch.losses[0] / 1.5
    assert state.best_score > 0.9
    assert [figures["loss"] for figures in state.history] == watch.losses


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8])
def test_a_fitting_that_was_stopped_ends_with_the_same_weights(tmp_path: Path, stop: int) -> None:
    whole, expected = fitted(tmp_path, recipe(2), Watch())
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(StoppedError):
        fitted(tmp_path, recipe(2), Watch(stop))
    resumed, state = fitted(tmp_path, recipe(2), Watch())
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
        assert torch.equal(expected.best[name], state.best[name]), name
    assert state.history == expected.history


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    network, _ = fitted(tmp_path, recipe(1), Watch())
    with pytest.raises(SettingsError, match="another"):
        Checkpoints(tmp_path, "two").load(network, torch.optim.AdamW(network.parameters()))


def test_foreign_images_are_what_they_say() -> None:
    kinds = foreign_images(2, 0)
    assert all(images.shape == (2, 300, 400) and images.dtype == np.uint8 for images in kinds.values())
    assert all((images.max(axis=(1, 2)) > images.min(axis=(1, 2))).all() for images in kinds.values())


def test_frozen_stages_keep_their_weights_and_normalisations_through_a_resume(tmp_path: Path) -> None:
    how = recipe(2)
    how = msgspec.structs.replace(how, fitting=msgspec.structs.replace(how.fitting, freeze=2, stage_rate=0.3))
    torch.manual_seed(how.seed)
    before = make_network(how.network).state_dict()
    whole, _ = fitted(tmp_path, how, Watch())
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(StoppedError):
        fitted(tmp_path, how, Watch(5))
    resumed, _ = fitted(tmp_path, how, Watch())
    for name, tensor in whole.state_dict().items():
        stays = name.startswith(("stages.0.", "stages.1."))
        assert torch.equal(tensor, before[name]) == stays, name
        assert torch.equal(tensor, resumed.state_dict()[name]), name
