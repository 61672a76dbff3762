"""A bundle's further precisions: made, measured against f32 on the validation images, and taken in if they pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.manifest import Split
from fetalmlops.domain.learning.precisions import judge_precision
from fetalmlops.domain.models.bundle import load_bundle, seal_bundle
from fetalmlops.domain.models.card import model_card
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.manifest import MANIFEST_NAME, Precision, Variant
from fetalmlops.platform.engines.openvino import OpenVinoEngine, can_run
from fetalmlops.training.predicting import of_split, predictions_of, run_engine
from fetalmlops.training.quantising import quantise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.training.loading.frames import Frames

__all__ = ["INT8_NETWORK", "add_precisions"]

INT8_NETWORK: Final = "model-int8.onnx"
"""File of the network in int8."""

_CALIBRATED_BY: Final = 128
_BATCH: Final = 8
_TOLERANCE: Final = {Precision.BF16: 0.05, Precision.INT8: 0.1}
_WIDEST: Final = 0.25
_MARGIN: Final = 2.0


def add_precisions(files: Mapping[str, bytes], frames: Frames, use: IntendedUse, seed: int) -> dict[str, bytes]:
    """Return the files of a bundle with those further precisions that keep the limits of the intended use.

    bf16 is looked at where this CPU computes in it; int8 is calibrated by a sample of the training images, or of the
    validation images where there are none. Both are judged on the validation images. The gates' figures stand in the
    evidence, those of a precision that failed too.

    Parameters
    ----------
    files
        Files of a sealed bundle; what it has in further precisions is made anew.
    frames
        Prepared frames of labelled images, as the bundle's pipeline and input have them.
    use
        The intended use.
    seed
        Seed of the sample.

    Raises
    ------
    ContractError
        If there are no validation images.
    """
    bundle = load_bundle(files)
    validation = of_split(frames, Split.VALIDATION)
    if not validation:
        msg = (
            "Expected labelled validation images to judge precisions by, got none; add the data with a validation share"
        )
        raise ContractError(msg, reason="data")
    full = _predictions(bundle, Precision.F32, frames, validation)
    manifest = bundle.manifest
    variants = {Precision.F32: manifest.variants[Precision.F32]}
    gates, contents = {}, _contents(bundle)
    for precision, network in _networks(bundle, frames, seed):
        candidate, tolerance = _candidate(bundle, precision, network)
        gate = judge_precision(full, _predictions(candidate, precision, frames, validation), manifest.decision, use)
        if tolerance is None:
            gate = msgspec.structs.replace(gate, passed=False, missed=[*gate.missed, "reference outputs"])
        gates[str(precision)] = gate
        if gate.passed and tolerance is not None:
            variants[precision] = msgspec.structs.replace(candidate.manifest.variants[precision], tolerance=tolerance)
            contents[variants[precision].file] = network
    evidence = msgspec.structs.replace(manifest.evidence, gates=gates)
    manifest = msgspec.structs.replace(manifest, variants=variants, default_precision=Precision.F32, evidence=evidence)
    return seal_bundle(manifest, contents | {manifest.card: model_card(manifest).encode()})


def _contents(bundle: Bundle) -> dict[str, bytes]:
    """Return a bundle's files without its manifest and without networks that f32 does not need."""
    variants = bundle.manifest.variants
    further = {variant.file for variant in variants.values()} - {variants[Precision.F32].file}
    return {name: data for name, data in bundle.files.items() if name not in {MANIFEST_NAME, *further}}


def _networks(bundle: Bundle, frames: Frames, seed: int) -> Iterator[tuple[Precision, bytes]]:
    network = bundle.network(Precision.F32)
    if can_run(Precision.BF16):
        yield Precision.BF16, network
    seen = of_split(frames, Split.TRAIN) or of_split(frames, Split.VALIDATION)
    sample = np.sort(np.random.default_rng(seed).permutation(seen)[:_CALIBRATED_BY])
    batches = [frames.batch(sample[start : start + _BATCH].tolist()) for start in range(0, len(sample), _BATCH)]
    yield Precision.INT8, quantise(network, batches)


def _candidate(bundle: Bundle, precision: Precision, network: bytes) -> tuple[Bundle, float | None]:
    """Return a bundle that has the precision, and the tolerance of its reference outputs; None where they are too far off."""
    f32 = bundle.manifest.variants[Precision.F32]
    file = INT8_NETWORK if precision is Precision.INT8 else f32.file
    variants = {Precision.F32: f32, precision: Variant(file=file, tolerance=1.0)}
    manifest = msgspec.structs.replace(bundle.manifest, variants=variants, default_precision=Precision.F32)
    candidate = load_bundle(seal_bundle(manifest, {**_contents(bundle), file: network}))
    found = check_engine(candidate, OpenVinoEngine(candidate, precision=precision))
    # Other CPUs round in another order: what this one shows is given room, to a hundredth.
    wanted = max(_TOLERANCE[precision], math.ceil(100 * _MARGIN * found) / 100)
    return candidate, wanted if wanted <= _WIDEST else None


def _predictions(bundle: Bundle, precision: Precision, frames: Frames, chosen: list[int]) -> Predictions:
    output = run_engine(OpenVinoEngine(bundle, precision=precision), frames, chosen)
    return predictions_of(frames, chosen, output, bundle.manifest.calibration, bundle.ood)
