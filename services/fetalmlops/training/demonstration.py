"""Trains the demonstration bundle: ``python -m fetalmlops.training.demonstration --out FOLDER --seed N``.

Renders phantoms, trains, calibrates and measures on simulated scanners that training never saw, and writes a sealed
bundle. Minutes on two cores; needs the ``train`` extra.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from fetalmlops import __version__
from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, ReleaseStatus
from fetalmlops.domain.models.bundle import Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.calibration import fit_temperature, softmax
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.decision import least_confidence
from fetalmlops.domain.models.manifest import (
    Calibration,
    DecisionRule,
    InputSpec,
    Manifest,
    Precision,
    Provenance,
    SourceEntry,
    Variant,
)
from fetalmlops.domain.models.ood import OodReference, fit_ood
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine, supports_bf16
from fetalmlops.training.card import demonstration_card
from fetalmlops.training.data import NO_BRAIN, Dataset, render_dataset
from fetalmlops.training.energy import energy_meter
from fetalmlops.training.evaluation import evaluate, foreign_images
from fetalmlops.training.export import export_onnx, export_weights
from fetalmlops.training.fitting import Recipe, fit, run
from fetalmlops.training.network import PlaneNetwork
from fetalmlops.training.phantoms import TEST_SCANNERS, TRAINING_SCANNERS, VALIDATION_SCANNERS, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.domain.models.manifest import Energy
    from fetalmlops.training.data import Renderer

__all__ = ["Plan", "main", "train_demonstration"]

NAME = "demonstration-planes"
VERSION = "1.0.0"
WIDTHS = (16, 32, 64, 80)
WORKERS = 2
TARGET_ACCURACY = 0.99
"""Accuracy that accepted held-out images reach together."""
REFERENCE_IMAGES = 4
REFERENCE_SIZE = (150, 200)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of what goes into a training.

    Parameters
    ----------
    training, validation, test
        Images of each data set.
    recipe
        How the network is fitted.
    spec
        Input of the network.
    """

    training: int = 5000
    validation: int = 700
    test: int = 700
    recipe: Recipe = field(default_factory=Recipe)
    spec: InputSpec = field(default_factory=lambda: InputSpec(rows=128, columns=160))


@dataclass(frozen=True, kw_only=True)
class _Data:
    training: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    network: PlaneNetwork
    calibration: Calibration
    decision: DecisionRule
    ood: OodReference
    metrics: dict[str, dict[str, float]]


def train_demonstration(plan: Plan, seed: int, renderer: Renderer = render) -> dict[str, bytes]:
    """Train and return the files of a sealed bundle.

    Parameters
    ----------
    plan
        How much of what.
    seed
        Seed of images, initial weights and order.
    renderer
        Makes one image; see `fetalmlops.training.phantoms.render`.
    """
    started = time.monotonic()
    with energy_meter() as meter:
        data = _rendered(plan, renderer, seed)
        _say(f"rendered in {time.monotonic() - started:.0f} s")
        torch.manual_seed(seed)
        network = PlaneNetwork(len(PLANES), len(BRAIN_PLANES), WIDTHS)
        fit(network, data.training, plan.recipe, seed, lambda epoch, loss: _say(f"epoch {epoch}: loss {loss:.4f}"))
        fitted = _calibrated(network, data, plan, seed)
    seconds = time.monotonic() - started
    files = _sealed(fitted, plan, _provenance(data.training, seed, seconds, meter.energy), renderer, seed)
    _verify(files)
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train, and write the bundle's files."""
    parser = argparse.ArgumentParser(description="Train the demonstration bundle on phantoms")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundle's files")
    parser.add_argument("--seed", type=int, default=1, help="seed of all that is random")
    parser.add_argument("--images", type=int, default=Plan.training, help="training images")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs, help="passes over them")
    options = parser.parse_args(arguments)
    plan = Plan(training=options.images, recipe=Recipe(epochs=options.epochs))
    files = train_demonstration(plan, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.out / name).write_bytes(content)
    _say(f"{options.out}: {sum(map(len, files.values())) / 1e6:.2f} MB\n\n{files['card.md'].decode()}")


def _rendered(plan: Plan, renderer: Renderer, seed: int) -> _Data:
    # Forked processes would inherit the locks of threads that numerical libraries have started.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:

        def rendered(images: int, scanners: Sequence[str], seed: int, *, augmented: bool = False) -> Dataset:
            return render_dataset(
                renderer, plan.spec, images=images, scanners=scanners, seed=seed, augmented=augmented, pool=pool
            )

        return _Data(
            training=rendered(plan.training, TRAINING_SCANNERS, seed, augmented=True),
            validation=rendered(plan.validation, VALIDATION_SCANNERS, seed + 1),
            test=rendered(plan.test, TEST_SCANNERS, seed + 2),
        )


def _calibrated(network: PlaneNetwork, data: _Data, plan: Plan, seed: int) -> _Fitted:
    training, validation = run(network, data.training.frames), run(network, data.validation.frames)
    brain = data.validation.brain_planes != NO_BRAIN
    calibration = Calibration(
        temperature=fit_temperature(validation.logits, data.validation.planes),
        brain_temperature=fit_temperature(validation.brain_logits[brain], data.validation.brain_planes[brain]),
    )
    ood = fit_ood(training.features, data.training.kinds, validation.features)
    decision = _decision_rule(data.validation, validation, calibration)
    metrics = {
        name: evaluate(each, run(network, each.frames), calibration, ood, decision.accept)
        for name, each in {"validation (unseen scanners)": data.validation, "test (unseen scanners)": data.test}.items()
    }
    for kind, images in foreign_images(50, seed).items():
        scores = ood.score(run(network, prepare(images, plan.spec).batch).features)
        metrics[f"no ultrasound: {kind}"] = {"out_of_scope": float((scores > decision.ood_limit).mean())}
    return _Fitted(network=network, calibration=calibration, decision=decision, ood=ood, metrics=metrics)


def _decision_rule(data: Dataset, output: EngineOutput, calibration: Calibration) -> DecisionRule:
    planes = softmax(output.logits, calibration.temperature)
    brain = data.brain_planes != NO_BRAIN
    brain_planes = softmax(output.brain_logits[brain], calibration.brain_temperature)
    accept = least_confidence(planes.max(axis=1), planes.argmax(axis=1) == data.planes, TARGET_ACCURACY)
    accept_brain = least_confidence(
        brain_planes.max(axis=1), brain_planes.argmax(axis=1) == data.brain_planes[brain], TARGET_ACCURACY
    )
    return DecisionRule(accept=round(accept, 4), accept_brain=round(accept_brain, 4))


def _provenance(training: Dataset, seed: int, seconds: float, energy: Energy) -> Provenance:
    return Provenance(
        recipe="fetalmlops.training.demonstration",
        code=__version__,
        seed=seed,
        data_digest=training.digest,
        environment={"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
        seconds=round(seconds, 1),
        energy=energy,
    )


def _sealed(fitted: _Fitted, plan: Plan, provenance: Provenance, renderer: Renderer, seed: int) -> dict[str, bytes]:
    network, spec = fitted.network, plan.spec
    manifest = Manifest(
        name=NAME,
        version=VERSION,
        release_status=ReleaseStatus.DEMONSTRATION,
        licence="Apache-2.0",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        planes=[*PLANES],
        brain_planes=[*BRAIN_PLANES],
        input=spec,
        calibration=fitted.calibration,
        decision=fitted.decision,
        embedding_length=WIDTHS[-1],
        variants={
            Precision.F32: Variant(file="model.onnx", tolerance=0.001),
            Precision.BF16: Variant(file="model.onnx", tolerance=0.05),
        },
        metrics=fitted.metrics,
        sources=[
            SourceEntry(
                name="phantoms",
                licence="Apache-2.0",
                description="images simulated by this package; no image of a person",
            )
        ],
        provenance=provenance,
    )
    files = {
        "model.onnx": export_onnx(network, spec.rows, spec.columns),
        manifest.weights: export_weights(network),
        manifest.ood: fitted.ood.to_bytes(),
        manifest.reference: _reference(fitted, spec, renderer, seed).to_bytes(),
        manifest.card: demonstration_card(manifest).encode(),
    }
    return seal_bundle(manifest, files)


def _reference(fitted: _Fitted, spec: InputSpec, renderer: Renderer, seed: int) -> Reference:
    frames = np.stack([_reference_frame(renderer, seed, index) for index in range(REFERENCE_IMAGES)])
    output = run(fitted.network, prepare(frames, spec).batch)
    planes = softmax(output.logits, fitted.calibration.temperature)
    brain_planes = softmax(output.brain_logits, fitted.calibration.brain_temperature)
    return Reference(frames, planes.astype(np.float32), brain_planes.astype(np.float32))


def _reference_frame(renderer: Renderer, seed: int, index: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((seed + 3, index))
    brain_plane = BRAIN_PLANES[0] if PLANES[index] == "brain" else None
    image = renderer(PLANES[index], brain_plane, TEST_SCANNERS[index % len(TEST_SCANNERS)], rng)
    return np.asarray(cv2.resize(image, REFERENCE_SIZE[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _verify(files: dict[str, bytes]) -> None:
    bundle = load_bundle(files)
    for precision in bundle.manifest.variants:
        if precision is not Precision.BF16 or supports_bf16():
            difference = check_engine(bundle, OpenVinoEngine(bundle, precision=precision))
            _say(f"{precision}: probabilities within {difference:.2g} of torch")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
