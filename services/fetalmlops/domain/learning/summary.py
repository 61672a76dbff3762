"""All figures of one model on one set of images, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, Decision, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning import metrics
from fetalmlops.domain.learning.exams import ExamFigures, exam_figures
from fetalmlops.domain.learning.intervals import Estimate, Resampler, Sampling
from fetalmlops.domain.learning.predictions import NO_LABEL, Predictions
from fetalmlops.domain.learning.reliability import (
    Bin,
    brier,
    class_gaps,
    log_loss,
    reliability_table,
    top_gaps,
    total_gap,
)
from fetalmlops.domain.learning.selective import accuracy_at, aurc, risk_coverage
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.decision import decide
from fetalmlops.domain.models.selective import selective_threshold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.evidence import SelectiveThreshold
    from fetalmlops.domain.models.manifest import DecisionRule

__all__ = [
    "COVERAGES",
    "GROUPS",
    "ClassFigures",
    "Summary",
    "decisions",
    "group_figures",
    "labelled",
    "part",
    "summarise_predictions",
]

COVERAGES: Final = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
"""Shares of the images at which the accuracy of the surest is told."""

GROUPS: Final = ("scanner", "operator", "site")
"""What images are grouped by."""

_POINTS: Final = 200
_USUAL: Final = Sampling()


@dataclass(frozen=True)
class ClassFigures:
    """How a model fares in one class."""

    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Summary:
    """All figures; estimates are keyed by their names, classes and groups by theirs.

    Parameters
    ----------
    images, patients, unlabelled
        Labelled images and their patients, and the images without a label, which count nowhere else.
    figures, uncalibrated
        Figures over all images, and those of calibration at a temperature of 1.
    planes, brain_planes
        Figures by class.
    confusion, brain_confusion
        Rows are labels, columns what the model named.
    reliability
        Accuracy by bins of confidence.
    coverage, risk
        The risk-coverage curve, at no more than 200 points.
    accuracy_at
        Accuracy of the surest images, by the share that is kept.
    threshold
        The threshold for the wished risk.
    decisions
        How many images got each decision.
    groups
        Figures by scanner, operator and site, where they are known.
    exams, exams_accepted
        Figures of examinations, of all that the model names, and of what it accepts.
    """

    images: int
    patients: int
    unlabelled: int
    figures: dict[str, Estimate]
    uncalibrated: dict[str, Estimate]
    planes: dict[str, ClassFigures]
    brain_planes: dict[str, ClassFigures]
    confusion: list[list[int]]
    brain_confusion: list[list[int]]
    reliability: list[Bin]
    coverage: list[float]
    risk: list[float]
    accuracy_at: dict[float, float]
    threshold: SelectiveThreshold
    decisions: dict[str, int]
    groups: dict[str, dict[str, dict[str, Estimate]]]
    exams: dict[str, ExamFigures]
    exams_accepted: dict[str, ExamFigures]


def summarise_predictions(
    predictions: Predictions,
    rule: DecisionRule,
    *,
    target_risk: float = 0.05,
    sampling: Sampling = _USUAL,
) -> Summary:
    """Return all figures of a model's predictions.

    Parameters
    ----------
    predictions
        What the model said.
    rule
        The bundle's thresholds.
    target_risk
        Highest share of patients with an error among what is accepted, for which a threshold is searched.
    sampling
        How intervals are made.

    Raises
    ------
    ContractError
        If no image has a label.
    """
    known = labelled(predictions)
    resampler = Resampler(known.patients, sampling)
    confusion = metrics.one_hot_confusion(known.labels, known.probabilities.argmax(axis=1), len(PLANES))
    brain = np.flatnonzero((known.brain_labels != NO_LABEL) & (known.labels == PLANES.index(Plane.BRAIN)))
    accepted = decisions(known, rule) == Decision.ACCEPT
    confidence, called = known.probabilities.max(axis=1), known.probabilities.argmax(axis=1)
    correct = called == known.labels
    coverage, risk = risk_coverage(confidence, correct)
    shown = np.unique(np.linspace(0, len(risk) - 1, _POINTS).astype(int))
    brain_figures, brain_planes, brain_confusion = _brain(known, brain, sampling)
    words, counts = np.unique(decisions(predictions, rule), return_counts=True)
    return Summary(
        images=len(known),
        patients=resampler.patients,
        unlabelled=len(predictions) - len(known),
        figures={
            **_overall(known, resampler, confusion),
            **_acceptance(known, rule, resampler, accepted, correct),
            "aurc": resampler.estimate(
                np.concatenate([aurc(confidence, correct, weights) for weights in resampler.weights()])
            ),
            **brain_figures,
        },
        uncalibrated=_calibration(softmax(known.logits), known.labels, resampler),
        planes=_classes(confusion, PLANES, resampler),
        brain_planes=brain_planes,
        confusion=confusion.sum(axis=0).astype(int).tolist(),
        brain_confusion=brain_confusion,
        reliability=reliability_table(known.probabilities, known.labels),
        coverage=coverage[shown].round(6).tolist(),
        risk=risk[shown].round(6).tolist(),
        accuracy_at=accuracy_at(confidence, correct, COVERAGES),
        threshold=selective_threshold(confidence, correct, known.patients, target=target_risk),
        decisions=dict(zip(words.tolist(), counts.tolist(), strict=True)),
        groups={name: _groups(known, rule, name, sampling) for name in GROUPS},
        exams=exam_figures(known.labels, called, np.ones(len(known), np.bool_), resampler.index),
        exams_accepted=exam_figures(known.labels, called, accepted, resampler.index),
    )


def labelled(predictions: Predictions) -> Predictions:
    """Return the predictions of the images that have a label of a plane.

    Raises
    ------
    ContractError
        If none has.
    """
    known = np.flatnonzero(predictions.labels != NO_LABEL)
    if not len(known):
        msg = f"Expected images with a label of a plane, got none among {len(predictions)}; label some, or name another split"
        raise ContractError(msg, reason="data-labels")
    return part(predictions, known)


def part(predictions: Predictions, chosen: NDArray[np.intp]) -> Predictions:
    """Return the predictions of chosen images, by index."""
    arrays = ("logits", "brain_logits", "features", "ood", "contrast", "sharpness")
    return Predictions(
        images=[predictions.images[index] for index in chosen],
        calibration=predictions.calibration,
        faults=[predictions.faults[index] for index in chosen] if predictions.faults else (),
        **{name: getattr(predictions, name)[chosen] for name in arrays},
    )


def decisions(predictions: Predictions, rule: DecisionRule) -> NDArray[np.str_]:
    """Return the decision on each image, [images], by the rule that serves."""
    count = len(predictions)
    brain = predictions.brain_probabilities
    rows = zip(
        predictions.probabilities.argmax(axis=1).tolist(),
        predictions.probabilities.max(axis=1).tolist(),
        brain.max(axis=1).tolist() if brain.shape[1] else [None] * count,
        [None if np.isnan(score) else score for score in predictions.ood.tolist()],
        predictions.contrast.tolist(),
        predictions.faults or [()] * count,
        strict=True,
    )
    return np.array([decide(rule, PLANES[plane], *rest).decision.value for plane, *rest in rows], np.str_)


def _overall(known: Predictions, resampler: Resampler, confusion: NDArray[np.float64]) -> dict[str, Estimate]:
    sums = resampler.sums(confusion)
    return {
        "accuracy": resampler.ratio(known.probabilities.argmax(axis=1) == known.labels),
        "balanced_accuracy": resampler.estimate(metrics.balanced_accuracy(sums), share=True),
        "macro_f1": resampler.estimate(metrics.macro_f1(sums), share=True),
        **_calibration(known.probabilities, known.labels, resampler),
    }


def _calibration(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], resampler: Resampler
) -> dict[str, Estimate]:
    images = resampler.sums(np.ones(len(labels)))
    by_class = total_gap(resampler.sums(class_gaps(probabilities, labels)), images[:, None])
    return {
        "expected_calibration_error": resampler.estimate(
            total_gap(resampler.sums(top_gaps(probabilities, labels)), images)
        ),
        "classwise_calibration_error": resampler.estimate(by_class.mean(axis=-1)),
        "brier": resampler.ratio(brier(probabilities, labels)),
        "negative_log_likelihood": resampler.ratio(log_loss(probabilities, labels)),
    }


def _acceptance(
    known: Predictions,
    rule: DecisionRule,
    resampler: Resampler,
    accepted: NDArray[np.bool_],
    correct: NDArray[np.bool_],
) -> dict[str, Estimate]:
    figures = {"accepted": resampler.ratio(accepted), "accuracy_of_accepted": resampler.ratio(correct, accepted)}
    if not np.isnan(known.ood).any():
        figures["out_of_scope"] = resampler.ratio(known.ood > rule.ood_limit)
    return figures


def _classes(confusion: NDArray[np.float64], names: Sequence[str], resampler: Resampler) -> dict[str, ClassFigures]:
    """Return the figures of each class; each rests on the images that it is a share of."""
    sums = resampler.sums(confusion)
    f1 = metrics.f1(sums)
    figures = {}
    for index, name in enumerate(names):
        hits, label, called = (
            confusion[:, index, index],
            confusion[:, index].sum(axis=1),
            confusion[:, :, index].sum(axis=1),
        )
        images, patients = int(label.sum()), len(np.unique(resampler.index[label > 0]))
        figures[str(name)] = ClassFigures(
            precision=resampler.ratio(hits > 0, called > 0),
            recall=resampler.ratio(hits > 0, label > 0),
            f1=resampler.estimate(f1[:, index] if images else np.full(1, np.nan), images, patients, share=True),
        )
    return figures


def _brain(
    known: Predictions, brain: NDArray[np.intp], sampling: Sampling
) -> tuple[dict[str, Estimate], dict[str, ClassFigures], list[list[int]]]:
    if not len(brain) or not known.brain_logits.shape[1]:
        return {}, {}, []
    images = part(known, brain)
    resampler = Resampler(images.patients, sampling)
    called = images.brain_probabilities.argmax(axis=1)
    confusion = metrics.one_hot_confusion(images.brain_labels, called, len(BRAIN_PLANES))
    sums = resampler.sums(confusion)
    figures = {
        "brain_accuracy": resampler.ratio(called == images.brain_labels),
        "brain_macro_f1": resampler.estimate(metrics.macro_f1(sums), share=True),
    }
    return figures, _classes(confusion, BRAIN_PLANES, resampler), confusion.sum(axis=0).astype(int).tolist()


def _groups(known: Predictions, rule: DecisionRule, by: str, sampling: Sampling) -> dict[str, dict[str, Estimate]]:
    names = np.array([getattr(image, by) for image in known.images], np.str_)
    found: Mapping[str, NDArray[np.intp]] = {
        str(name): np.flatnonzero(names == name) for name in np.unique(names) if name
    }
    return {name: group_figures(part(known, chosen), rule, sampling) for name, chosen in found.items()}


def group_figures(images: Predictions, rule: DecisionRule, sampling: Sampling) -> dict[str, Estimate]:
    """Return the figures of labelled images that stand for one group, keyed as in `Summary.groups`."""
    resampler = Resampler(images.patients, sampling)
    called = images.probabilities.argmax(axis=1)
    figures = _overall(images, resampler, metrics.one_hot_confusion(images.labels, called, len(PLANES)))
    accepted = decisions(images, rule) == Decision.ACCEPT
    kept = ("accuracy", "macro_f1", "expected_calibration_error")
    return {
        **{name: figures[name] for name in kept},
        **_acceptance(images, rule, resampler, accepted, called == images.labels),
    }
