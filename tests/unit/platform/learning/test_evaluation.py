"""A bundle over a data set: as serving judges, and what is tried beyond."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline
from fetalmlops.domain.learning.faithfulness import STEPS, curve_area, deletion_batch, insertion_batch, over_input
from fetalmlops.domain.learning.intervals import Sampling
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.summary import decisions
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.classify import classify
from fetalmlops.domain.models.manifest import PipelineEntry
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.learning.datasets import Dataset
from fetalmlops.platform.learning.evaluation import Evaluator, predict
from fetalmlops.platform.learning.explaining import scramble
from fetalmlops.platform.learning.fitting import observe
from fetalmlops.platform.learning.ledger import Use, read_uses, record_use
from fetalmlops.platform.learning.trials import run_trials, trial_images
from support.learning import FolderData, phantom_data


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(bundled_files())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FolderData:
    return phantom_data(tmp_path_factory.mktemp("phantoms") / "data", 27)


def test_predictions_are_what_serving_says_of_each_image(bundle: Bundle, data: FolderData) -> None:
    steps: list[int] = []
    predictions = predict(bundle, data, Split.TEST, progress=lambda: steps.append(1))
    assert len(predictions) == len(steps) == 27
    said = decisions(predictions, bundle.manifest.decision)
    engine = OpenVinoEngine(bundle)
    for index, entry in enumerate(data.manifest.images):
        frames = find_pipeline(PLAIN).run_array(data.read(entry)).frames
        prepared = prepare(frames, bundle.manifest.input)
        output = engine.infer(prepared.batch)
        served = classify(bundle, output, prepared.contrast, prepared.sharpness, prepared.faults)
        assert PLANES[int(predictions.probabilities[index].argmax())] == served.plane
        assert predictions.probabilities[index] == pytest.approx(served.probabilities, abs=1e-5)
        assert predictions.ood[index] == pytest.approx(served.ood_score, rel=1e-4)
        assert said[index] == served.verdict.decision
    assert (predictions.probabilities.argmax(axis=1) == predictions.labels).mean() > 0.9


def test_a_split_without_images_is_refused(bundle: Bundle, data: FolderData) -> None:
    with pytest.raises(ContractError, match="of the split train, got none"):
        predict(bundle, data, Split.TRAIN)


def test_a_bundle_for_another_normalisation_is_refused(bundle: Bundle) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, pipeline=PipelineEntry(name=PLAIN, digest="0" * 64))
    files = {name: data for name, data in bundle.files.items() if name != "manifest.json"}
    with pytest.raises(ContractError, match="Expected the normalisation plain that the bundle was made for"):
        Evaluator(load_bundle(seal_bundle(manifest, files)))


def test_every_image_is_timed(bundle: Bundle, data: FolderData) -> None:
    evaluator = Evaluator(bundle)
    evaluator.predictions(data.manifest.images[:4], data.read)
    timing = evaluator.timing
    assert len(timing.prepare_ms) == len(timing.infer_ms) == 4
    assert min(timing.prepare_ms + timing.infer_ms) > 0
    assert timing.cpu_s > 0


def test_trials_tell_of_changes_foreign_images_and_explanations(bundle: Bundle, data: FolderData) -> None:
    evaluator = Evaluator(bundle)
    predictions = evaluator.predictions(data.manifest.images, data.read)
    steps: list[int] = []
    trials = run_trials(
        evaluator, data, predictions, images=6, sampling=Sampling(200), progress=lambda: steps.append(1)
    )
    assert len(steps) == trial_images(6, explained=True)
    assert trials.images == 6
    assert trials.behaviour["blank"].accepted.value == 0
    assert trials.behaviour["speckle"].kept.value > 0.5
    assert trials.foreign["noise"].accepted.value == 0
    figures = {name: estimate.value for name, estimate in trials.faithfulness.items()}
    assert figures["faithfulness"] == pytest.approx(figures["insertion"] - figures["deletion"], abs=1e-5)
    assert figures["faithfulness"] > figures["faithfulness_of_chance"]
    assert figures["similarity_random_weights"] < figures["repeatability"]
    again = run_trials(Evaluator(bundle), data, predictions, images=6, sampling=Sampling(200), workers=1)
    assert again == trials  # how many work side by side changes no figure


def test_the_steps_are_enough_for_the_areas(bundle: Bundle, data: FolderData) -> None:
    evaluator = Evaluator(bundle)
    areas = []
    for entry in data.manifest.images[:6]:
        judged = evaluator.judge(data.read(entry))
        frame, top = judged.prepared.batch[0], int(judged.output.logits[0].argmax())
        ranking = over_input(judged.output.maps[0, top], *frame.shape)
        areas += [
            curve_area(softmax(evaluator.infer(batch(frame, ranking, steps)).logits)[:, top])
            for batch in (insertion_batch, deletion_batch)
            for steps in (STEPS, 4 * STEPS)
        ]
    coarse, fine = np.array(areas).reshape(-1, 2).T
    assert np.abs(coarse - fine).mean() < 0.02
    assert coarse.mean() == pytest.approx(fine.mean(), abs=0.01)


def test_shuffled_weights_change_the_answers_and_those_of_the_head_leave_the_features(
    bundle: Bundle, data: FolderData
) -> None:
    frame = prepare(bundle.reference.frames, bundle.manifest.input).batch
    plain = OpenVinoEngine(bundle).infer(frame)
    head = OpenVinoEngine(bundle, alter=scramble(1, head_only=True)).infer(frame)
    everything = OpenVinoEngine(bundle, alter=scramble(1)).infer(frame)
    assert np.allclose(plain.features, head.features, rtol=1e-4, atol=1e-5)
    assert not np.allclose(plain.logits, head.logits, atol=0.1)
    assert not np.allclose(plain.features, everything.features, atol=0.1)


def use(**changes: str) -> Use:
    values = {"time": "2026-01-01T00:00:00+00:00", "account": "someone", "purpose": "a release", "split": "test"}
    rest = {"data_digest": "a" * 64, "bundle": "x 1.0.0", "bundle_digest": "b" * 64}
    return Use(images=3, **{**values, **rest, **changes})


def test_the_ledger_only_grows_and_tells_the_uses_of_the_same_images(data: FolderData, tmp_path: Path) -> None:
    path = tmp_path / "set" / "ledger.jsonl"
    kept = Dataset(data.manifest, "a" * 64, tmp_path, path)
    assert read_uses(kept, "test") == []
    record_use(path, use())
    first = path.read_bytes()
    record_use(path, use(purpose="again"))
    record_use(path, use(split="validation"))
    record_use(path, use(data_digest="c" * 64))
    assert path.read_bytes().startswith(first)
    assert [each.purpose for each in read_uses(kept, "test")] == ["a release", "again"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_running_a_bundle_to_fit_or_to_accept_it_is_a_use(bundle: Bundle, data: FolderData, tmp_path: Path) -> None:
    images = [msgspec.structs.replace(each, split=Split.TRAIN) for each in data.manifest.images[:2]]
    manifest = msgspec.structs.replace(data.manifest, images=[*images, *data.manifest.images[2:5]])
    kept = Dataset(manifest, "a" * 64, data.root, tmp_path / "ledger.jsonl")
    observe(bundle, kept)
    observe(bundle, kept, purpose="acceptance test")
    tested = read_uses(kept, "test")
    assert [(each.purpose, each.images) for each in tested] == [("fit of a bundle", 3), ("acceptance test", 3)]
    assert {each.bundle_digest for each in tested} == {bundle.digest}
    assert [each.images for each in read_uses(kept, "train")] == [2, 2]


def test_a_ledger_that_was_changed_is_refused(data: FolderData, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    record_use(path, use())
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(ContractError, match="only ever appended to"):
        read_uses(Dataset(data.manifest, "a" * 64, tmp_path, path), "test")
