"""Fine-tuning: who is learnt from, what is derived, what stays as it is, what is refused; needs the train extra."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("mlflow", reason="training needs the train extra")

from fetalmlops.domain.errors import ContractError  # noqa: E402
from fetalmlops.domain.learning.manifest import Split  # noqa: E402
from fetalmlops.domain.learning.phantoms.site import plan_site  # noqa: E402
from fetalmlops.domain.learning.provenance import recorded, seen_by  # noqa: E402
from fetalmlops.domain.models.bundle import Bundle, load_bundle  # noqa: E402
from fetalmlops.platform.inference.bundles import FETAL_PLANES, packaged_bundle  # noqa: E402
from fetalmlops.platform.inference.graphs import change_head  # noqa: E402
from fetalmlops.platform.learning.datasets import Dataset, open_dataset  # noqa: E402
from fetalmlops.platform.learning.fitting import observe, resealed  # noqa: E402
from fetalmlops.platform.learning.levels import with_head  # noqa: E402
from fetalmlops.platform.learning.phantoms import write_dataset  # noqa: E402
from fetalmlops.platform.settings import Settings  # noqa: E402
from fetalmlops.training.export import load_weights  # noqa: E402
from fetalmlops.training.finetuning import derived_recipe, fine_tune, own_recipe, plan  # noqa: E402
from fetalmlops.training.networks import make_network  # noqa: E402
from fetalmlops.training.places import Place  # noqa: E402
from fetalmlops.training.session import Job, train  # noqa: E402
from support.training import RECIPE, Viewer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

HERE = Place(torch.device("cpu"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(phantoms: Path, home: Path) -> Dataset:
    return open_dataset(Settings(home=home), phantoms)


@pytest.fixture(scope="module")
def old(first: Dataset, home: Path) -> Bundle:
    return load_bundle(train(Job(recipe=RECIPE, data=first, home=home), HERE, Viewer()).files)


@pytest.fixture(scope="module")
def site(home: Path) -> Dataset:
    write_dataset(home / "site", plan_site("site", ["eta"], 80, seed=3), "site", workers=1)
    return open_dataset(Settings(home=home), home / "site")


def test_no_patient_who_judges_is_learnt_from(old: Bundle, site: Dataset, first: Dataset) -> None:
    planned = plan(old, site, first, seed=1, name="tuned", version="1.0.0")
    learnt = planned.mixed.manifest.images
    assert {image.split for image in learnt} == {Split.TRAIN, Split.VALIDATION}
    assert not {image.pixels for image in learnt} & {image.pixels for image in planned.site_judged}
    names = {image.patient for image in learnt if image.path.startswith("0/")}
    assert not names & {f"0 {image.patient}" for image in planned.site_judged}
    assert len(names) + len({image.patient for image in planned.site_judged}) == 20
    for image in (learnt[0], learnt[-1]):
        source = site if image.path.startswith("0/") else first
        own = next(each for each in source.manifest.images if each.pixels == image.pixels)
        assert np.array_equal(planned.mixed.read(image), source.read(own))


def test_of_the_old_site_what_the_bundle_never_saw_judges(old: Bundle, site: Dataset, first: Dataset) -> None:
    planned = plan(old, site, first, seed=1, name="tuned", version="1.0.0")
    assert {image.split for image in planned.kept_judged} == {Split.TEST}
    assert len(planned.kept_judged) == 20
    learnt = [image for image in planned.mixed.manifest.images if image.path.startswith("1/")]
    assert seen_by(old, first.manifest, "0" * 64, learnt).images.all()
    assert len(learnt) <= len([image for image in planned.mixed.manifest.images if image.path.startswith("0/")])


def test_the_recipe_is_the_bundles_own_but_slower_and_partly_fixed(old: Bundle) -> None:
    own = own_recipe(old)
    assert own == RECIPE
    tuned = derived_recipe(own, 500, name="tuned", version="1.0.0", seed=4)
    assert tuned.network == own.network
    assert tuned.fitting.learning_rate == pytest.approx(own.fitting.learning_rate / 5)
    assert tuned.fitting.freeze > 0
    again = derived_recipe(tuned, 500, name="again", version="1.0.0", seed=4, again=True)
    assert again.fitting == tuned.fitting


def test_fine_tuning_starts_from_the_weights_and_leaves_the_first_stage(old: Bundle, site: Dataset, home: Path) -> None:
    planned = plan(old, site, None, seed=1, name="tuned", version="1.0.0")
    change = fine_tune(planned, old, home, HERE, Viewer())
    before, after = make_network(RECIPE.network), make_network(RECIPE.network)
    load_weights(before, old.files[old.manifest.weights])
    load_weights(after, change.bundle.files[change.bundle.manifest.weights])
    now = after.state_dict()
    counted = {name: tensor for name, tensor in before.state_dict().items() if not name.endswith("num_batches_tracked")}
    same = [bool(torch.equal(tensor, now[name])) for name, tensor in counted.items()]
    # The first stage, a convolution and the four tensors of its normalisation; all else has moved.
    assert same == [True] * 5 + [False] * (len(same) - 5)
    evidence = change.bundle.manifest.evidence
    assert [(entry.role, entry.digest) for entry in evidence.data] == [
        ("training", old.manifest.provenance.data_digest)
    ]
    assert {*recorded(old).images} < {*recorded(change.bundle).images}
    assert len(change.site.predictions) == len(change.before) == len(planned.site_judged)


def test_a_network_that_cannot_be_built_again_is_refused(site: Dataset) -> None:
    foreign = load_bundle(packaged_bundle(FETAL_PLANES))
    with pytest.raises(ContractError, match="recipe and weights") as caught:
        plan(foreign, site, None, seed=1, name="tuned", version="1.0.0")
    assert caught.value.reason == "no-recipe"


def test_weights_that_are_not_those_of_the_changed_head_are_refused(old: Bundle, site: Dataset) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (old.manifest.embedding_length, 6))
    network, _ = change_head(old.network(old.manifest.default_precision), weight, np.zeros(6))
    changed = load_bundle(resealed(old, {"name": "headed"}, {"model.onnx": network}))
    with pytest.raises(ContractError, match="changed without the other") as caught:
        plan(changed, site, None, seed=1, name="tuned", version="1.0.0")
    assert caught.value.reason == "weights"


def test_a_changed_head_leaves_no_weights_of_the_network_that_was(old: Bundle, site: Dataset) -> None:
    change = with_head(old, observe(old, site), None)
    changed = load_bundle(resealed(old, {"name": "headed", **change.fields}, change.files))
    assert old.manifest.weights in old.files
    assert old.manifest.weights not in changed.files
    with pytest.raises(ContractError, match="recipe and weights") as caught:
        plan(changed, site, None, seed=1, name="tuned", version="1.0.0")
    assert caught.value.reason == "no-recipe"


def test_a_plane_that_is_not_learnt_from_is_refused(old: Bundle, site: Dataset) -> None:
    images = [image for image in site.manifest.images if image.plane != "femur"]
    less = Dataset(msgspec.structs.replace(site.manifest, images=images), site.digest, site.root)
    with pytest.raises(ContractError, match="none of femur"):
        plan(old, less, None, seed=1, name="tuned", version="1.0.0")
