"""Training and export; needs the train extra."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("onnx", reason="training needs the train extra")

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, ReleaseStatus  # noqa: E402
from fetalmlops.domain.models.bundle import load_bundle  # noqa: E402
from fetalmlops.domain.models.engine import OUTPUT_NAMES, EngineOutput  # noqa: E402
from fetalmlops.domain.models.manifest import InputSpec  # noqa: E402
from fetalmlops.training.data import NO_BRAIN, Dataset, render_dataset  # noqa: E402
from fetalmlops.training.demonstration import Plan, train_demonstration  # noqa: E402
from fetalmlops.training.evaluation import foreign_images  # noqa: E402
from fetalmlops.training.export import export_onnx, export_weights, load_weights  # noqa: E402
from fetalmlops.training.fitting import Recipe, fit, run  # noqa: E402
from fetalmlops.training.network import PlaneNetwork  # noqa: E402
from fetalmlops.training.phantoms import (  # noqa: E402
    TEST_SCANNERS,
    TRAINING_SCANNERS,
    VALIDATION_SCANNERS,
    render,
)

pytestmark = pytest.mark.torch

SPEC = InputSpec(rows=64, columns=80)


def network(seed: int = 0) -> PlaneNetwork:
    torch.manual_seed(seed)
    made = PlaneNetwork(len(PLANES), len(BRAIN_PLANES), (8, 16, 24))
    made.train()
    for _ in range(3):
        made(3 * torch.randn(8, 1, 64, 80) + 1)
    return made.eval()


def rendered(seed: int, images: int = 20, *, augmented: bool = True, workers: int = 1) -> Dataset:
    with ThreadPoolExecutor(workers) as pool:
        return render_dataset(
            render, SPEC, images=images, scanners=TRAINING_SCANNERS, seed=seed, augmented=augmented, pool=pool
        )


def served(onnx: bytes, frames: np.ndarray) -> EngineOutput:
    import openvino

    core = openvino.Core()
    results = core.compile_model(core.read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(frames[:, None])
    return EngineOutput(*(results[name] for name in OUTPUT_NAMES))


def test_the_exported_graph_says_what_the_network_says() -> None:
    made = network()
    frames = np.random.default_rng(0).normal(size=(5, 64, 80)).astype(np.float32)
    expected, found = run(made, frames), served(export_onnx(made, 64, 80), frames)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=1e-4)


def test_the_export_is_reproducible_and_weights_survive_it() -> None:
    made, other = network(0), network(1)
    assert export_onnx(made, 64, 80) == export_onnx(network(0), 64, 80) != export_onnx(other, 64, 80)
    load_weights(other, export_weights(made))
    assert export_onnx(other, 64, 80) == export_onnx(made, 64, 80)


def test_the_logits_are_the_means_of_the_maps() -> None:
    output = run(network(), np.random.default_rng(0).normal(size=(3, 64, 80)).astype(np.float32))
    np.testing.assert_allclose(output.maps.mean(axis=(2, 3)), output.logits, atol=1e-5)


def test_scanners_of_training_validation_and_test_are_disjoint() -> None:
    names = [*TRAINING_SCANNERS, *VALIDATION_SCANNERS, *TEST_SCANNERS]
    assert len(names) == len(set(names))
    assert all((TRAINING_SCANNERS, VALIDATION_SCANNERS, TEST_SCANNERS))


def test_the_same_seed_renders_the_same_images_whoever_renders_them() -> None:
    assert rendered(1).digest == rendered(1, workers=3).digest
    assert len({rendered(1).digest, rendered(2).digest, rendered(1, augmented=False).digest}) == 3


def test_every_plane_and_brain_plane_is_rendered() -> None:
    data = rendered(1)
    assert set(data.planes) == set(range(len(PLANES)))
    brain = data.planes == PLANES.index("brain")
    assert set(data.brain_planes[brain]) == set(range(len(BRAIN_PLANES)))
    assert set(data.brain_planes[~brain]) == {NO_BRAIN}
    assert set(data.kinds) == set(range(len(PLANES) + len(BRAIN_PLANES))) - {PLANES.index("brain")}


def test_fitting_learns_what_it_is_shown_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    planes = np.arange(96) % len(PLANES)
    frames = rng.normal(0, 0.3, (96, 64, 80)).astype(np.float32)
    for index, plane in enumerate(planes):
        frames[index, 10 * plane : 10 * plane + 10] += 2
    data = Dataset(frames, planes.astype(np.int64), np.full(96, NO_BRAIN), "")
    results = []
    for _ in range(2):
        made, losses = network(), []
        fit(made, data, Recipe(epochs=8, batch=16), 1, lambda _, loss, kept=losses: kept.append(loss))
        assert losses[-1] < losses[0] / 2
        results.append(run(made, frames))
    assert (results[0].logits.argmax(axis=1) == planes).mean() > 0.95
    np.testing.assert_array_equal(results[0].logits, results[1].logits)


def test_foreign_images_are_what_they_say() -> None:
    kinds = foreign_images(2, 0)
    assert all(images.shape == (2, 300, 400) and images.dtype == np.uint8 for images in kinds.values())
    assert all((images.max(axis=(1, 2)) > images.min(axis=(1, 2))).all() for images in kinds.values())


@pytest.mark.timeout(240)
def test_a_short_training_gives_a_sealed_bundle_that_says_what_it_is() -> None:
    plan = Plan(training=60, validation=40, test=40, recipe=Recipe(epochs=1, batch=20))
    bundle = load_bundle(train_demonstration(plan, seed=3))
    manifest = bundle.manifest
    assert manifest.release_status is ReleaseStatus.DEMONSTRATION
    assert manifest.provenance.seed == 3
    assert manifest.provenance.energy.method in {"modelled", "unknown"}
    assert "Worth nothing on patients" in bundle.files[manifest.card].decode()
    assert manifest.metrics["test (unseen scanners)"]["images"] == 40
