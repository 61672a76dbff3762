"""Figures of a fitted model: accuracy, calibration, selective prediction and out-of-scope detection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.planes import Decision
from fetalmlops.domain.learning import metrics
from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.learning.summary import decisions
from fetalmlops.domain.models.calibration import expected_calibration_error, negative_log_likelihood

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.manifest import DecisionRule

__all__ = ["evaluate", "macro_f1"]


def evaluate(predictions: Predictions, rule: DecisionRule) -> dict[str, float]:
    """Return the figures of a model's predictions on labelled images, keyed by metric.

    Parameters
    ----------
    predictions
        What the model said.
    rule
        By which they are accepted.
    """
    planes, labels = predictions.probabilities, predictions.labels
    accepted = decisions(predictions, rule) == Decision.ACCEPT
    correct = planes.argmax(axis=1) == labels
    figures = {
        "images": float(len(predictions)),
        "accuracy": float(correct.mean()),
        "macro_f1": macro_f1(planes.argmax(axis=1), labels),
        "negative_log_likelihood": negative_log_likelihood(planes, labels),
        "expected_calibration_error": expected_calibration_error(planes, labels),
        "accepted": float(accepted.mean()),
        "out_of_scope": float((predictions.ood > rule.ood_limit).mean()),
    }
    brain = predictions.brain_labels != NO_LABEL
    if brain.any():
        found, expected = predictions.brain_probabilities[brain].argmax(axis=1), predictions.brain_labels[brain]
        figures["brain_accuracy"] = float((found == expected).mean())
        figures["brain_macro_f1"] = macro_f1(found, expected)
    if accepted.any():
        figures["accuracy_of_accepted"] = float(correct[accepted].mean())
    return figures


def macro_f1(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that `labels` has; both are indices, [images]."""
    classes = int(max(predicted.max(), labels.max())) + 1
    return float(metrics.macro_f1(metrics.one_hot_confusion(labels, predicted, classes).sum(axis=0)))
