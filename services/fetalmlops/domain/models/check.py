"""The technical gate of a bundle: its engine reproduces the reference outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.engine import OUTPUT_NAMES
from fetalmlops.domain.models.prepare import prepare

if TYPE_CHECKING:
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine

__all__ = ["check_engine"]


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
    manifest, reference = bundle.manifest, bundle.reference
    output = engine.infer(prepare(reference.frames, manifest.input).batch)
    count, planes, brain_planes = len(reference.frames), len(manifest.planes), len(manifest.brain_planes)
    expected = {
        "logits": (count, planes),
        "brain_logits": (count, brain_planes),
        "embedding": (count, manifest.embedding_length),
        "features": (count, len(bundle.ood.whitening)),
    }
    found = {name: getattr(output, name).shape for name in expected}
    if found != expected or output.maps.shape[:2] != (count, planes):
        msg = f"Expected outputs of the shapes {expected}, got {found}; rebuild the bundle"
        raise ContractError(msg, reason="bundle")
    if not all(np.isfinite(getattr(output, name)).all() for name in OUTPUT_NAMES):
        msg = "Expected finite outputs on the reference frames, got others; rebuild the bundle"
        raise ContractError(msg, reason="bundle")
    difference = max(
        float(np.abs(softmax(output.logits, manifest.calibration.temperature) - reference.planes).max()),
        float(
            np.abs(softmax(output.brain_logits, manifest.calibration.brain_temperature) - reference.brain_planes).max()
        ),
    )
    tolerance = manifest.variants[engine.precision].tolerance
    if difference > tolerance:
        msg = (
            f"Expected probabilities within {tolerance} of the reference in {engine.precision}, got {difference:.2g}; "
            "serve another precision or rebuild the bundle"
        )
        raise ContractError(msg, reason="reference")
    return difference
