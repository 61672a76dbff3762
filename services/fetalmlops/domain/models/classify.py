"""From a network's outputs on all frames of an instance to one calibrated, explained result with a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.decision import Verdict, decide
from fetalmlops.domain.models.explain import frame_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.domain.models.manifest import Manifest

__all__ = ["Classified", "classify", "explain", "frame_weights"]

_LEAST_WEIGHT = 0.05
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Classified:
    """The result for one instance.

    Parameters
    ----------
    plane, confidence
        Likeliest plane over all frames and its calibrated probability.
    probabilities
        Calibrated probabilities of the planes over all frames, [planes].
    brain_plane
        Likeliest brain sub-plane, given a brain; None where the bundle tells none.
    brain_probabilities
        Calibrated probabilities of the brain sub-planes, given a brain, [brain planes]; empty where it tells none.
    best
        Index of the frame that shows `plane` best.
    ood_score
        Out-of-scope score of that frame; None where the bundle has no reference for it.
    verdict
        What the result asks of its reader.
    frame_probabilities
        Calibrated probabilities per frame, [frames, planes].
    frame_weights
        Weight of each frame, [frames]; they sum to 1.
    frame_ood
        Out-of-scope score per frame, [frames]; None where the bundle has no reference for it.
    """

    plane: Plane
    confidence: float
    probabilities: NDArray[np.float64]
    brain_plane: BrainPlane | None
    brain_probabilities: NDArray[np.float64]
    best: int
    ood_score: float | None
    verdict: Verdict
    frame_probabilities: NDArray[np.float64]
    frame_weights: NDArray[np.float64]
    frame_ood: NDArray[np.float64] | None


def frame_weights(contrast: NDArray[np.float64], sharpness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights of frames by image quality: contrast times sharpness relative to the best frame, summing to 1.

    No frame weighs less than a twentieth of the best, so that quality alone never silences a frame.

    Examples
    --------
    >>> frame_weights(np.array([0.2, 0.2]), np.array([0.03, 0.01])).tolist()
    [0.75, 0.25]
    """
    quality = contrast * sharpness
    relative = quality / quality.max() if quality.max() > 0 else np.ones_like(quality)
    weights = np.maximum(relative, _LEAST_WEIGHT)
    return np.asarray(weights / weights.sum(), np.float64)


def classify(
    bundle: Bundle,
    output: EngineOutput,
    contrast: NDArray[np.float64],
    sharpness: NDArray[np.float64],
    faults: Sequence[tuple[str, ...]] = (),
) -> Classified:
    """Bring the outputs on all frames of an instance together.

    The planes' probabilities are the quality-weighted mean over the frames; those of the brain sub-planes weigh each frame
    by its probability of showing a brain as well. The best frame is the one with the highest product of weight and
    probability of the likeliest plane.

    Parameters
    ----------
    bundle
        The model.
    output
        Outputs on the frames, in order.
    contrast, sharpness
        Figures of the prepared frames, [frames] each.
    faults
        Why each prepared frame cannot be judged; empty for none. A frame that can be judged is the best before one that
        cannot.
    """
    manifest = bundle.manifest
    planes = softmax(output.logits, manifest.calibration.temperature)
    weights = frame_weights(contrast, sharpness)
    probabilities = weights @ planes
    top = int(probabilities.argmax())
    brain_probabilities = _brain_probabilities(manifest, output, planes, weights)
    judged = np.array([not each for each in faults]) if faults else np.ones(len(weights), np.bool_)
    best = int((weights * planes[:, top] + judged).argmax())
    ood = None if bundle.ood is None else bundle.ood.score(output.features)
    ood_score = None if ood is None else float(ood[best])
    plane = Plane(manifest.planes[top])
    confidence = float(probabilities[top])
    brain_confidence = float(brain_probabilities.max()) if len(brain_probabilities) else None
    return Classified(
        plane=plane,
        confidence=confidence,
        probabilities=probabilities,
        brain_plane=BrainPlane(manifest.brain_planes[int(brain_probabilities.argmax())])
        if manifest.brain_planes
        else None,
        brain_probabilities=brain_probabilities,
        best=best,
        ood_score=ood_score,
        verdict=decide(
            manifest.decision,
            plane,
            confidence,
            brain_confidence,
            ood_score,
            float(contrast[best]),
            faults[best] if faults else (),
        ),
        frame_probabilities=planes,
        frame_weights=weights,
        frame_ood=ood,
    )


def _brain_probabilities(
    manifest: Manifest, output: EngineOutput, planes: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not manifest.brain_planes:
        return np.empty(0)
    brain = softmax(output.brain_logits, manifest.calibration.brain_temperature)
    brain_weights = weights * np.maximum(planes[:, manifest.planes.index(Plane.BRAIN)], _TINY)
    return np.asarray(brain_weights @ brain / brain_weights.sum(), np.float64)


def explain(
    bundle: Bundle, output: EngineOutput, result: Classified, rows: int, columns: int
) -> NDArray[np.float32] | None:
    """Return the class-activation map of the likeliest plane in the best frame, over a frame of `rows` by `columns`.

    None where the bundle's network gives no maps.
    """
    if "maps" not in bundle.manifest.outputs:
        return None
    index = bundle.manifest.planes.index(result.plane)
    return frame_map(output.maps[result.best, index], rows, columns, bundle.manifest.input)
