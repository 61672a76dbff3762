"""The technical gate of a bundle: its engine reproduces the reference outputs, and its frames will come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.engine import OUTPUT_NAMES
from fetalmlops.domain.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine, EngineOutput
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["check_engine", "check_output", "check_pipeline"]


def check_pipeline(manifest: Manifest, produced: Collection[str]) -> None:
    """Check that frames of the bundle's pipeline are made at all.

    Parameters
    ----------
    manifest
        Manifest of the bundle.
    produced
        Digests of the pipelines that the normalizer runs.

    Raises
    ------
    ContractError
        If there is no such pipeline among them.
    """
    pipeline = manifest.pipeline
    if pipeline.digest not in produced:
        msg = (
            f"Expected a bundle for a pipeline that the normalizer runs, got one for {pipeline.name}, digest "
            f"{pipeline.digest[:12]}…; name that pipeline in normalizer.pipelines, let the normalizer run it, and start again"
        )
        raise ContractError(msg, reason="pipeline")


def check_engine(bundle: Bundle, engine: Engine) -> float:
    """Run the reference frames and compare.

    Parameters
    ----------
    bundle
        The bundle.
    engine
        An engine that runs it.

    Returns
    -------
    float
        Largest difference of any calibrated probability from its reference.

    Raises
    ------
    ContractError
        If that lies beyond the tolerance of the engine's precision, outputs have other shapes than the manifest tells, or
        are not finite.
    """
    output = engine.infer(prepare(bundle.reference.frames, bundle.manifest.input).batch)
    return check_output(bundle, output, bundle.manifest.variants[engine.precision].tolerance, str(engine.precision))


def check_output(bundle: Bundle, output: EngineOutput, tolerance: float, precision: str) -> float:
    """Compare outputs on the reference frames with the reference, as `check_engine` does.

    Parameters
    ----------
    bundle
        The bundle.
    output
        Outputs on its prepared reference frames.
    tolerance
        Largest difference of a probability that is let pass.
    precision
        What the outputs were made in, for the error.
    """
    manifest, reference = bundle.manifest, bundle.reference
    count, planes, brain_planes = len(reference.frames), len(manifest.planes), len(manifest.brain_planes)
    expected = {
        "logits": (count, planes),
        "brain_logits": (count, brain_planes),
        "embedding": (count, manifest.embedding_length),
        "features": (count, output.features.shape[1] if bundle.ood is None else len(bundle.ood.whitening)),
    }
    found = {name: getattr(output, name).shape for name in expected}
    if found != expected or output.maps.shape[:2] != (count, planes if "maps" in manifest.outputs else 0):
        msg = f"Expected outputs of the shapes {expected}, got {found}; rebuild the bundle"
        raise ContractError(msg, reason="bundle")
    if not all(np.isfinite(getattr(output, name)).all() for name in OUTPUT_NAMES):
        msg = "Expected finite outputs on the reference frames, got others; rebuild the bundle"
        raise ContractError(msg, reason="bundle")
    difference = _difference(softmax(output.logits, manifest.calibration.temperature), reference.planes)
    if brain_planes:
        found_brain = softmax(output.brain_logits, manifest.calibration.brain_temperature)
        difference = max(difference, _difference(found_brain, reference.brain_planes))
    if difference > tolerance:
        msg = (
            f"Expected probabilities within {tolerance} of the reference in {precision}, got {difference:.2g}; "
            "serve another precision or rebuild the bundle"
        )
        raise ContractError(msg, reason="reference")
    return difference


def _difference(found: NDArray[np.float64], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max())
