"""Precisions: whether a network in another arithmetic still says what it says in f32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.learning import metrics
from fetalmlops.domain.learning.intervals import Resampler, Sampling
from fetalmlops.domain.learning.summary import decisions, labelled
from fetalmlops.domain.models.evidence import PrecisionGate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.learning.intended_use import IntendedUse
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.manifest import DecisionRule

__all__ = ["judge_precision"]


def judge_precision(full: Predictions, other: Predictions, rule: DecisionRule, use: IntendedUse) -> PrecisionGate:
    """Return whether a precision keeps the limits of the intended use, and the figures that say so.

    A plane without an image cannot be judged, which is no pass.

    Parameters
    ----------
    full, other
        What the network says of the same images in f32, and in the other precision.
    rule
        The bundle's thresholds.
    use
        The intended use; its table ``precision`` holds the limits.

    Raises
    ------
    ContractError
        If no image has a label.
    """
    full, other = labelled(full), labelled(other)
    resampler = Resampler(full.patients, Sampling(level=use.accuracy.interval))
    agreement = resampler.ratio(full.probabilities.argmax(axis=1) == other.probabilities.argmax(axis=1))
    before, after = _confusion(full), _confusion(other)
    lost = np.nan_to_num(metrics.recall(before) - metrics.recall(after), nan=-1.0)
    worst, same = int(lost.argmax()), float((decisions(full, rule) == decisions(other, rule)).mean())
    share, low = agreement.value or 0.0, agreement.low
    f1_loss = float(metrics.macro_f1(before) - metrics.macro_f1(after))
    limits = use.precision
    missed = {
        "precision.agreement": share < limits.agreement,
        "precision.agreement_bound": low is None or low < limits.agreement_bound,
        "precision.decision_agreement": same < limits.decision_agreement,
        "precision.macro_f1_loss": f1_loss > limits.macro_f1_loss,
        "precision.plane_recall_loss": lost[worst] > limits.plane_recall_loss,
        **{f"images of {name}": not count for name, count in zip(PLANES, before.sum(axis=1), strict=True)},
    }
    return PrecisionGate(
        images=len(full),
        patients=resampler.patients,
        agreement=share,
        agreement_low=low,
        decision_agreement=round(same, 6),
        macro_f1_loss=round(f1_loss, 6),
        worst_plane=str(PLANES[worst]),
        worst_plane_loss=round(float(lost[worst]), 6),
        largest_difference=round(float(np.abs(full.probabilities - other.probabilities).max()), 6),
        passed=not any(missed.values()),
        missed=[name for name, fault in missed.items() if fault],
    )


def _confusion(predictions: Predictions) -> NDArray[np.float64]:
    called = predictions.probabilities.argmax(axis=1)
    return np.asarray(metrics.one_hot_confusion(predictions.labels, called, len(PLANES)).sum(axis=0))
