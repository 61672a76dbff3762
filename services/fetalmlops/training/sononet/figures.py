"""Figures from left-out predictions, each decision made on other patients than it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.models.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)
from fetalmlops.domain.models.decision import least_confidence
from fetalmlops.training.evaluation import macro_f1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.training.sononet.fitting import LeftOut, Material
    from fetalmlops.training.sononet.images import Image
    from fetalmlops.training.sononet.recipe import Recipe

__all__ = ["Decided", "auroc", "decide_on", "left_out_figures", "metadata_baseline", "risk_coverage", "share", "wilson"]

_NORMAL_95 = 1.959964
_TREES = 300


@dataclass(frozen=True)
class Decided:
    """What is chosen by left-out predictions: temperature, least probability, and the distance that scores 1."""

    temperature: float
    accept: float
    scale: float


def decide_on(
    planes: NDArray[np.int64],
    sources: NDArray[np.str_],
    left: LeftOut,
    recipe: Recipe,
    labelled: NDArray[np.bool_],
) -> Decided:
    """Choose temperature and threshold by the images `labelled`, the scale by that source which needs the widest."""
    logits, labels = left.logits[labelled], planes[labelled]
    temperature = fit_temperature(logits, labels)
    probabilities = softmax(logits, temperature)
    correct = probabilities.argmax(axis=1) == labels
    accept = least_confidence(probabilities.max(axis=1), correct, recipe.target_accuracy)
    scale = max(np.quantile(left.distances[sources == source], recipe.ood_quantile) for source in np.unique(sources))
    return Decided(temperature, accept, float(scale))


def left_out_figures(material: Material, left: LeftOut, recipe: Recipe, judged: NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures on the images `judged`; what is decided is decided anew without each patient.

    Parameters
    ----------
    material, left
        Images and what fits without their patient say of them.
    recipe
        How to decide.
    judged
        Which images to report on.
    """
    planes, patients = material.planes, material.patients
    probabilities = np.zeros((len(planes), left.logits.shape[1]))
    accepted, outside = np.zeros((2, len(planes)), np.bool_)
    for patient in np.unique(patients[judged]):
        out = patients == patient
        decided = decide_on(planes[~out], material.sources[~out], _part(left, ~out), recipe, judged[~out])
        probabilities[out] = softmax(left.logits[out], decided.temperature)
        outside[out] = left.distances[out] > decided.scale
        accepted[out] = (probabilities[out].max(axis=1) >= decided.accept) & ~outside[out]
    probabilities, labels = probabilities[judged], planes[judged]
    accepted, outside = accepted[judged], outside[judged]
    correct = probabilities.argmax(axis=1) == labels
    plain = softmax(left.logits[judged])
    figures = {
        "images": float(len(labels)),
        "patients": float(len(np.unique(patients[judged]))),
        "other_images": float((~judged).sum()),
        **share("accuracy", correct),
        "macro_f1": macro_f1(probabilities.argmax(axis=1), labels),
        "negative_log_likelihood": negative_log_likelihood(probabilities, labels),
        "negative_log_likelihood_uncalibrated": negative_log_likelihood(plain, labels),
        "expected_calibration_error": expected_calibration_error(probabilities, labels),
        "expected_calibration_error_uncalibrated": expected_calibration_error(plain, labels),
        **risk_coverage(probabilities.max(axis=1), correct),
        **share("accepted", accepted),
        **share("out_of_scope", outside),
    }
    if accepted.any():
        figures |= share("accuracy_of_accepted", correct[accepted])
    return figures | _brain_figures(material, left)


def metadata_baseline(images: Sequence[Image], seed: int) -> dict[str, float]:
    """Return how often a random forest tells the plane from scanner and screen size alone, each patient left out once."""
    machines = sorted({image.machine for image in images})
    rows = np.array([[*image.size, *(image.machine == name for name in machines)] for image in images], np.float64)
    labels, patients = np.array([image.plane for image in images]), np.array([image.patient for image in images])
    said = np.empty_like(labels)
    for patient in np.unique(patients):
        out = patients == patient
        forest = RandomForestClassifier(_TREES, class_weight="balanced", random_state=seed)
        said[out] = forest.fit(rows[~out], labels[~out]).predict(rows[out])
    return {"images": float(len(labels)), **share("accuracy", said == labels), "macro_f1": macro_f1(said, labels)}


def share(name: str, found: NDArray[np.bool_]) -> dict[str, float]:
    """Return the share of what was found, with its Wilson interval, keyed by name."""
    low, high = wilson(int(found.sum()), len(found))
    return {name: float(found.mean()), f"{name}_low": low, f"{name}_high": high}


def wilson(found: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, JASA 22, 1927).

    Examples
    --------
    >>> [round(bound, 2) for bound in wilson(39, 50)]
    [0.65, 0.87]
    """
    ratio, square = found / total, _NORMAL_95**2
    centre = (ratio + square / (2 * total)) / (1 + square / total)
    half = _NORMAL_95 / (1 + square / total) * sqrt(ratio * (1 - ratio) / total + square / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def risk_coverage(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> dict[str, float]:
    """Return accuracy at three quarters and one half of coverage, and the area under the risk-coverage curve.

    Examples
    --------
    >>> risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, False]))["accuracy_at_coverage_0.75"]
    1.0
    """
    ordered = correct[np.argsort(-confidence, kind="stable")]
    accuracy = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    at = {
        f"accuracy_at_coverage_{coverage}": float(accuracy[max(0, round(coverage * len(ordered)) - 1)])
        for coverage in (0.75, 0.5)
    }
    return at | {"area_under_risk_coverage": float((1 - accuracy).mean())}


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Return how often an image out of scope scores higher than one in scope."""
    labels = np.repeat((0, 1), (len(inside), len(outside)))
    return float(roc_auc_score(labels, np.concatenate([inside, outside])))


def _brain_figures(material: Material, left: LeftOut) -> dict[str, float]:
    labelled = material.brain_planes != NO_LABEL
    if not labelled.any():
        return {}
    labels = material.brain_planes[labelled]
    commonest = int(material.brain_prior.argmax())
    return {
        "brain_images": float(len(labels)),
        **share("brain_accuracy", left.brain_logits[labelled].argmax(axis=1) == labels),
        "brain_accuracy_of_the_commonest": float((labels == commonest).mean()),
        "brain_negative_log_likelihood": negative_log_likelihood(softmax(left.brain_logits[labelled]), labels),
        "brain_negative_log_likelihood_of_the_prior": float(-np.log(material.brain_prior[labels]).mean()),
    }


def _part(left: LeftOut, chosen: NDArray[np.bool_]) -> LeftOut:
    return type(left)(left.logits[chosen], left.brain_logits[chosen], left.distances[chosen])
