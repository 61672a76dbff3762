"""From folders of images to a sealed bundle; needs the train extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("onnx", reason="training needs the train extra")

from sklearn.linear_model import LogisticRegression  # noqa: E402
from torch import nn  # noqa: E402

from fetalmlops.domain.contracts.planes import PLANES, ReleaseStatus  # noqa: E402
from fetalmlops.domain.errors import ContractError, ObjectMissingError  # noqa: E402
from fetalmlops.domain.learning.predictions import NO_LABEL  # noqa: E402
from fetalmlops.domain.models.bundle import load_bundle  # noqa: E402
from fetalmlops.domain.models.check import check_engine  # noqa: E402
from fetalmlops.platform.engines.openvino import OpenVinoEngine  # noqa: E402
from fetalmlops.training.sononet.__main__ import main  # noqa: E402
from fetalmlops.training.sononet.features import Features, featurise_images, varied  # noqa: E402
from fetalmlops.training.sononet.figures import (  # noqa: E402
    auroc,
    decide_on,
    left_out_figures,
    metadata_baseline,
    risk_coverage,
    wilson,
)
from fetalmlops.training.sononet.fitting import LeftOut, Material, leave_out  # noqa: E402
from fetalmlops.training.sononet.foreign import foreign_screens  # noqa: E402
from fetalmlops.training.sononet.heads import ABSENT, Views, fit_head, image_weights  # noqa: E402
from fetalmlops.training.sononet.images import (  # noqa: E402
    Image,
    digest,
    read_brain_prior,
    read_fetal_planes,
    read_hc18,
)
from fetalmlops.training.sononet.making import Sources, make_bundle  # noqa: E402
from fetalmlops.training.sononet.network import VIEWS, SonoNetPlanes, load_trunk  # noqa: E402
from fetalmlops.training.sononet.recipe import Recipe  # noqa: E402

pytestmark = pytest.mark.torch


def image(plane: int, patient: str, brain: int = NO_LABEL, machine: str = "") -> Image:
    return Image(np.zeros((20, 20), np.uint8), patient, plane, brain, machine, (20, 20))


def material(patients: int = 8, seed: int = 0, signal: float = 1.0) -> Material:
    """Embeddings in which each plane has a channel of its own, as strong as `signal`."""
    rng = np.random.default_rng(seed)
    images, embedding = [], []
    for patient in range(patients):
        for plane in range(len(PLANES)):
            row = rng.gamma(2, 0.5, 64)
            row[plane] += 6 * signal
            images.append(image(plane, f"fetal-planes {patient}", patient % 3 if plane == 1 else NO_LABEL))
            embedding.append(row)
    pooled = rng.gamma(2, 0.5, (len(images), 1, 256)).astype(np.float32)
    return Material(
        images,
        Features(np.array(embedding, np.float32)[:, None], pooled),
        np.array([0.5, 0.3, 0.15, 0.05]),
        Views(np.zeros((len(VIEWS), 64)), np.zeros(len(VIEWS))),
    )


def test_images_are_read_once_and_only_those_that_are_there(data: Path) -> None:
    images = read_fetal_planes(data / "planes")
    assert len(images) == 24
    assert {image.patient for image in images} == {f"fetal-planes {number}" for number in range(4)}
    assert sum(image.brain_plane != NO_LABEL for image in images) == 4
    assert len({digest(images), digest(images[1:])}) == 2


def test_the_prior_of_brain_planes_comes_from_the_training_rows(data: Path) -> None:
    np.testing.assert_allclose(read_brain_prior(data / "planes"), np.array([2, 1, 1, 1]) / 5)


def test_no_patient_of_hc18_is_both_learnt_and_held_out(data: Path) -> None:
    learnt, held_out = read_hc18(data / "hc18")
    assert (len(learnt), len(held_out)) == (4, 2)
    assert not {image.patient for image in learnt} & {image.patient for image in held_out}


@pytest.mark.parametrize("missing", ["--images", "--hc18", "--weights"])
def test_what_is_missing_is_named(data: Path, tmp_path: Path, missing: str) -> None:
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    places = {"--images": data / "planes", "--hc18": data / "hc18", "--weights": weights}
    places[missing] = tmp_path / "nowhere"
    if missing != "--weights":
        places["--weights"] = tmp_path / "weights.pth"
    reader = {"--images": read_fetal_planes, "--hc18": read_hc18}.get(missing)
    if reader:
        with pytest.raises(ObjectMissingError, match="Expected"):
            reader(places[missing])
    with pytest.raises(SystemExit) as stopped:
        main([part for name, place in places.items() for part in (name, str(place))] + ["--out", str(tmp_path / "out")])
    assert "Expected" in str(stopped.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken"])
def test_a_file_that_holds_no_weights_is_refused(data: Path, tmp_path: Path, content: bytes) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(content)
    with pytest.raises(ContractError, match="Expected"):
        Sources.read(data / "planes", data / "hc18", weights)
    torch.save([1, 2], weights)
    with pytest.raises(ContractError, match="SonoNet-16"):
        Sources.read(data / "planes", data / "hc18", weights)


def test_every_label_and_every_patient_of_it_weighs_the_same() -> None:
    labels, patients = np.array([0, 0, 0, 1, 1]), np.array(["a", "a", "b", "a", "c"])
    weights = image_weights(labels, patients)
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum())
    assert weights[:2].sum() == pytest.approx(weights[2])
    assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize("labels", [[0, 2], [0, 1, 2, 4]])
def test_a_head_tells_what_it_was_fitted_on_and_never_says_what_it_has_not_seen(labels: list[int]) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(labels, 20)
    embedding = rng.gamma(2, 0.5, (len(truth), 2, 64)).astype(np.float32)
    embedding[np.arange(len(truth)), :, truth] += 5
    odds = np.zeros((*embedding.shape[:2], 5))
    head = fit_head(odds, embedding, truth, np.arange(len(truth)).astype(str), strength=1.0)
    assert (head.logits(odds[:, 0], embedding[:, 0]).argmax(axis=1) == truth).mean() == 1
    assert (head.bias[sorted(set(range(5)) - set(labels))] == ABSENT).all()


def test_the_linear_part_alone_is_scikit_learns_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(4), 30)
    embedding = rng.gamma(2, 0.5, (len(truth), 1, 64)).astype(np.float32)
    embedding[np.arange(len(truth)), 0, truth] += 1
    odds = np.zeros((len(truth), 1, 4))
    head = fit_head(odds, embedding, truth, np.arange(len(truth)).astype(str), strength=0.05)
    rows = np.log1p(embedding[:, 0].astype(np.float64))
    peer = LogisticRegression(C=0.05, max_iter=5000, tol=1e-8).fit((rows - rows.mean(axis=0)) / rows.std(axis=0), truth)
    np.testing.assert_allclose(head.weight * rows.std(axis=0), peer.coef_, atol=1e-3)
    assert head.gain == pytest.approx(1)


@pytest.mark.parametrize("trusted", [True, False])
def test_the_published_head_is_kept_where_it_is_right_and_turned_down_where_it_is_not(trusted: bool) -> None:
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(4), 30)
    embedding = rng.gamma(2, 0.5, (len(truth), 1, 64)).astype(np.float32)
    said = truth if trusted else rng.permutation(truth)
    odds = np.where(np.eye(4, dtype=bool)[said], 3.0, 0.0)[:, None]
    head = fit_head(odds, embedding, truth, np.arange(len(truth)).astype(str), strength=0.05)
    assert head.gain > 1 if trusted else head.gain < 0.3


def test_a_left_out_patient_is_judged_by_what_others_show() -> None:
    made = material()
    recipe = Recipe(strength=0.1)
    left = leave_out(made, recipe)
    assert (left.logits.argmax(axis=1) == made.planes).mean() > 0.8
    without = leave_out(material(signal=0), recipe)
    assert (without.logits.argmax(axis=1) == made.planes).mean() < 0.45


def test_what_a_patients_own_images_say_does_not_change_how_they_are_judged() -> None:
    made = material()
    out = made.patients == "fetal-planes 3"
    planted = Material(
        [image(0, each.patient) if mine else each for each, mine in zip(made.images, out, strict=True)],
        made.features,
        made.brain_prior,
        made.views,
    )
    recipe = Recipe()
    before, after = leave_out(made, recipe), leave_out(planted, recipe)
    np.testing.assert_array_equal(before.logits[out], after.logits[out])
    assert not np.array_equal(before.logits[~out], after.logits[~out])


def test_figures_judge_each_patient_by_decisions_of_the_others() -> None:
    """One patient's images are so far off that they set the limit, if their own count."""
    made = material(patients=10)
    left = leave_out(made, Recipe())
    out = made.patients == "fetal-planes 4"
    far = LeftOut(left.logits, left.brain_logits, np.where(out, 1e6, left.distances))
    everyone = np.ones(len(out), np.bool_)
    assert decide_on(made.planes, made.sources, far, Recipe(), everyone).scale >= 1e5
    figures = left_out_figures(made, far, Recipe(), everyone)
    assert figures["out_of_scope"] >= out.mean()
    assert figures["images"] == 60
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]


def test_intervals_and_curves_are_those_of_the_literature() -> None:
    assert wilson(39, 50) == pytest.approx((0.6476, 0.8725), abs=1e-4)
    assert (wilson(0, 60)[0], wilson(60, 60)[1]) == (0, 1)
    curve = risk_coverage(np.array([0.6, 0.9, 0.7, 0.8]), np.array([False, True, False, True]))
    assert curve["accuracy_at_coverage_0.5"] == 1
    assert curve["area_under_risk_coverage"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert auroc(np.array([1.0, 2.0]), np.array([3.0, 1.5])) == 0.75


def test_the_baseline_sees_scanner_and_size_alone() -> None:
    images = [image(plane, str(patient), machine=f"m{plane}") for patient in range(4) for plane in range(3)]
    assert metadata_baseline(images, 0)["accuracy"] == 1
    alike = [image(plane, str(patient)) for patient in range(4) for plane in range(3)]
    assert metadata_baseline(alike, 0)["accuracy"] < 0.5


def test_copies_are_varied_and_repeatable() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    first, again, other = (varied(frame, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == frame.shape
    assert not np.array_equal(first, other)
    torch.manual_seed(0)
    network = SonoNetPlanes().eval()
    features = featurise_images(network, [Image(frame, "a", 0, NO_LABEL, "", (60, 80))], 2, 1)
    assert features.embedding.shape == (1, 3, 64)
    assert features.pooled.shape == (1, 3, 256)


def test_foreign_screens_are_what_they_say() -> None:
    kinds = foreign_screens(2, 0)
    assert {"noise", "text", "empty sector", "leaves", "photographs"} <= set(kinds)
    assert all(screens.shape == (2, 300, 400) and screens.dtype == np.uint8 for screens in kinds.values())
    assert all((screens.std(axis=(1, 2)) > 3).all() for screens in kinds.values())


@pytest.mark.timeout(280)
def test_images_become_a_sealed_bundle_that_serves_what_it_learnt(
    data: Path, sononet: tuple[nn.Sequential, nn.Sequential]
) -> None:
    network = SonoNetPlanes().eval()
    parts = zip(("features", "adaption"), sononet, strict=True)
    load_trunk(network, {f"{part}.{name}": each for part, net in parts for name, each in net.state_dict().items()})
    learnt, held_out = read_hc18(data / "hc18")
    sources = Sources(
        read_fetal_planes(data / "planes"),
        learnt,
        held_out,
        read_brain_prior(data / "planes"),
        network,
    )
    bundle = load_bundle(make_bundle(sources, 3, Recipe(augmentations=1, foreign=1, serving_runs=2)))
    manifest = bundle.manifest
    assert manifest.release_status is ReleaseStatus.DEMONSTRATION
    assert (manifest.input.rows, manifest.input.columns) == (288, 224)
    assert manifest.decision.accept_brain == 1
    assert manifest.pipeline.name == "plain"
    assert check_engine(bundle, OpenVinoEngine(bundle)) < 1e-3
    assert manifest.metrics["FETAL_PLANES_DB (left-out patients)"]["images"] == 24
    assert manifest.metrics["HC18 (held-out patients)"]["images"] == 2
    assert "Apache License 2.0" in bundle.files["notice.md"].decode()
    assert "24 real images of 4 patients" in bundle.files[manifest.card].decode()
    # Only phantoms are shown as reference, whatever it was fitted on.
    learnt_frames = {frame.frame.tobytes() for frame in [*sources.fetal_planes, *learnt, *held_out]}
    assert not learnt_frames & {frame.tobytes() for frame in bundle.reference.frames}
