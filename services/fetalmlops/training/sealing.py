"""From fitted weights to a sealed bundle: temperatures, thresholds, out-of-scope reference, figures, files."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from fetalmlops import __version__
from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.domain.learning.foreign import foreign_images
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.predictions import NO_LABEL, Predictions
from fetalmlops.domain.models.bundle import Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.calibration import fit_temperature, softmax
from fetalmlops.domain.models.card import model_card
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.decision import least_confidence
from fetalmlops.domain.models.manifest import (
    Calibration,
    DecisionRule,
    Manifest,
    PipelineEntry,
    Precision,
    Provenance,
    SourceEntry,
    Variant,
)
from fetalmlops.domain.models.ood import fit_ood
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.domain.simulation import SCANNERS, render
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.learning.fitting import sources_of
from fetalmlops.training.code import code_digest
from fetalmlops.training.evaluation import evaluate
from fetalmlops.training.export import export_onnx, export_weights
from fetalmlops.training.fitting import run, run_frames
from fetalmlops.training.predicting import of_split, predictions_of
from fetalmlops.training.recipe import recipe_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from fetalmlops.domain.models.evidence import Evidence
    from fetalmlops.domain.models.manifest import Energy
    from fetalmlops.domain.models.ood import OodReference
    from fetalmlops.training.loading.frames import Frames
    from fetalmlops.training.recipe import Recipe

__all__ = ["Judged", "environment_of", "judge_network", "make_provenance", "seal_network"]

_FOREIGN = 50
_NETWORK = "model.onnx"
_TOLERANCE = 0.001
_REFERENCE_SIZE = (150, 200)
_REFERENCE_PLANES = (Plane.OTHER, Plane.BRAIN, Plane.THORAX, Plane.ABDOMEN)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A fitted network with all that turns its outputs into decisions, and its figures.

    Parameters
    ----------
    network
        The network, on the CPU.
    calibration, decision, ood
        Temperatures, thresholds, and what the out-of-scope score is measured from.
    metrics
        Figures by data set, then by metric.
    predictions
        What it says of the validation images and, where there are some, the test images.
    """

    network: nn.Module
    calibration: Calibration
    decision: DecisionRule
    ood: OodReference
    metrics: dict[str, dict[str, float]]
    predictions: dict[Split, Predictions]


def judge_network(network: nn.Module, frames: Frames, recipe: Recipe) -> Judged:
    """Calibrate a network on the validation images, and measure it on those and, once, on the test images.

    Parameters
    ----------
    network
        The fitted network.
    frames
        Prepared frames of the data set.
    recipe
        Its recipe.

    Raises
    ------
    ContractError
        If there are no labelled validation images.
    """
    network.eval()
    chosen = {split: of_split(frames, split) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)}
    if not chosen[Split.VALIDATION]:
        msg = "Expected labelled validation images, got none; add the data with a validation share"
        raise ContractError(msg, reason="data")
    training, validation = (run(network, frames, chosen[split]) for split in (Split.TRAIN, Split.VALIDATION))
    sources = {split: sources_of([frames.images[index] for index in chosen[split]]) for split in chosen}
    ood = fit_ood(
        training.features,
        _kinds(frames, chosen[Split.TRAIN]),
        validation.features,
        sources=sources[Split.TRAIN],
        held_out_sources=sources[Split.VALIDATION],
    )
    calibration = _temperatures(predictions_of(frames, chosen[Split.VALIDATION], validation, Calibration(), ood))
    predictions = predictions_of(frames, chosen[Split.VALIDATION], validation, calibration, ood)
    decision = _decision_rule(predictions, recipe.accuracy)
    said = {Split.VALIDATION: predictions}
    if chosen[Split.TEST]:
        output = run(network, frames, chosen[Split.TEST])
        said[Split.TEST] = predictions_of(frames, chosen[Split.TEST], output, calibration, ood)
    metrics = {str(split): evaluate(each, decision) for split, each in said.items()}
    for kind, images in foreign_images(_FOREIGN, recipe.seed).items():
        scores = ood.score(run_frames(network, prepare(images, recipe.input).batch).features)
        metrics[f"no ultrasound: {kind}"] = {"out_of_scope": float((scores > decision.ood_limit).mean())}
    return Judged(
        network=network, calibration=calibration, decision=decision, ood=ood, metrics=metrics, predictions=said
    )


def make_provenance(
    recipe: Recipe, data_digest: str, environment: dict[str, str], seconds: float, energy: Energy
) -> Provenance:
    """Return how a model was made.

    Parameters
    ----------
    recipe, data_digest
        The recipe, and the digest of the data set.
    environment
        Versions and settings of the fitting.
    seconds, energy
        What it took.
    """
    return Provenance(
        recipe=f"{recipe.name} {recipe.version} sha256:{recipe_digest(recipe)}",
        code=__version__,
        seed=recipe.seed,
        data_digest=data_digest,
        environment={**environment, "code": f"sha256:{code_digest()}"},
        seconds=round(seconds, 1),
        energy=energy,
    )


def seal_network(
    judged: Judged, recipe: Recipe, provenance: Provenance, sources: Sequence[SourceEntry], evidence: Evidence
) -> dict[str, bytes]:
    """Return the files of a sealed bundle, in f32.

    Parameters
    ----------
    judged
        The network and what it came to.
    recipe
        Its recipe.
    provenance
        How it was made.
    sources
        Data and weights that it was made from.
    evidence
        What is known of it.
    """
    network, spec = judged.network, recipe.input
    manifest = Manifest(
        name=recipe.name,
        version=recipe.version,
        release_status=recipe.release_status,
        licence=recipe.licence,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        planes=[*PLANES],
        brain_planes=[*BRAIN_PLANES],
        pipeline=PipelineEntry(name=recipe.pipeline, digest=find_pipeline(recipe.pipeline).digest),
        input=spec,
        calibration=judged.calibration,
        decision=judged.decision,
        embedding_length=run_frames(network, np.zeros((1, spec.rows, spec.columns), np.float32)).embedding.shape[1],
        variants={Precision.F32: Variant(file=_NETWORK, tolerance=_TOLERANCE)},
        metrics=judged.metrics,
        sources=[*sources],
        provenance=provenance,
        evidence=evidence,
    )
    files = {
        _NETWORK: export_onnx(network, spec.rows, spec.columns),
        manifest.weights: export_weights(network),
        manifest.ood: judged.ood.to_bytes(),
        manifest.reference: _reference(judged, recipe).to_bytes(),
        manifest.card: model_card(manifest).encode(),
    }
    sealed = seal_bundle(manifest, files)
    bundle = load_bundle(sealed)
    check_engine(bundle, OpenVinoEngine(bundle))
    return sealed


def environment_of(device: torch.device) -> dict[str, str]:
    """Return the versions and settings that may change a result."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": str(torch.get_num_threads()),
    }


def _kinds(frames: Frames, chosen: Sequence[int]) -> NDArray[np.int64]:
    """Return one number per plane, and per sub-plane of the brain: the classes of the out-of-scope reference."""
    names = [f"{frames.images[index].plane}/{frames.images[index].brain_plane or ''}" for index in chosen]
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def _temperatures(predictions: Predictions) -> Calibration:
    brain = predictions.brain_labels != NO_LABEL
    return Calibration(
        temperature=fit_temperature(predictions.logits, predictions.labels),
        brain_temperature=(
            fit_temperature(predictions.brain_logits[brain], predictions.brain_labels[brain]) if brain.any() else 1.0
        ),
    )


def _decision_rule(predictions: Predictions, accuracy: float) -> DecisionRule:
    brain = predictions.brain_labels != NO_LABEL
    thresholds = [
        least_confidence(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, accuracy)
        if len(labels)
        else 1.0
        for probabilities, labels in (
            (predictions.probabilities, predictions.labels),
            (predictions.brain_probabilities[brain], predictions.brain_labels[brain]),
        )
    ]
    # Rounded up: no threshold may fall below the least that reached the accuracy.
    accept, accept_brain = (min(1.0, float(np.ceil(threshold * 1e4) / 1e4)) for threshold in thresholds)
    return DecisionRule(accept=accept, accept_brain=accept_brain)


def _reference(judged: Judged, recipe: Recipe) -> Reference:
    """Return phantoms with their probabilities: a bundle carries no image of a person, whatever it was trained on."""
    frames = np.stack([_reference_frame(recipe, plane, index) for index, plane in enumerate(_REFERENCE_PLANES)])
    output = run_frames(judged.network, prepare(frames, recipe.input).batch)
    planes = softmax(output.logits, judged.calibration.temperature)
    brain_planes = softmax(output.brain_logits, judged.calibration.brain_temperature)
    return Reference(frames, planes.astype(np.float32), brain_planes.astype(np.float32))


def _reference_frame(recipe: Recipe, plane: Plane, index: int) -> NDArray[np.uint8]:
    screen = render(plane, SCANNERS[index % len(SCANNERS)], np.random.default_rng((recipe.seed, index)))
    frame = find_pipeline(recipe.pipeline).run_array(screen.pixels[screen.region.slices]).frames[0]
    return np.asarray(cv2.resize(frame, _REFERENCE_SIZE[::-1], interpolation=cv2.INTER_AREA), np.uint8)
