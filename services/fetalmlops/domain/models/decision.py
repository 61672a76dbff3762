"""The decision rule: accept, review, or out of scope."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fetalmlops.domain.contracts.planes import Decision, Plane
from fetalmlops.domain.models.screening import REASON_BLANK, REASON_CONTENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.manifest import DecisionRule

__all__ = [
    "REASON_BRAIN_PLANE",
    "REASON_CONFIDENCE",
    "REASON_OOD",
    "REASON_QUALITY",
    "Verdict",
    "decide",
    "decision_digest",
    "least_confidence",
]

_RULE_VERSION: Final = 2

REASON_OOD: Final = "ood"
"""The image is unlike anything that the model was fitted on."""
REASON_CONFIDENCE: Final = "confidence"
"""No plane is likely enough."""
REASON_BRAIN_PLANE: Final = "brain-plane"
"""It is a brain, but no brain sub-plane is likely enough."""
REASON_QUALITY: Final = "quality"
"""The best frame has too little contrast."""


_NOT_JUDGED: Final = frozenset({REASON_OOD, REASON_BLANK, REASON_CONTENT})


@dataclass(frozen=True)
class Verdict:
    """What a result asks of its reader, and why it is not more."""

    decision: Decision
    reasons: tuple[str, ...] = ()


def decide(
    rule: DecisionRule,
    plane: Plane,
    confidence: float,
    brain_confidence: float | None,
    ood_score: float | None,
    contrast: float,
    faults: tuple[str, ...] = (),
) -> Verdict:
    """Apply the rule. Every reason that holds is named; no ultrasound at all, and being out of scope, outweigh the others.

    Parameters
    ----------
    rule
        Thresholds of the bundle.
    plane, confidence
        Likeliest plane and its calibrated probability.
    brain_confidence
        Calibrated probability of the likeliest brain sub-plane; looked at only where `plane` is brain. None where the
        model tells no sub-plane: none is promised then.
    ood_score
        Out-of-scope score of the best frame; None where the model has none.
    contrast
        Contrast of the best frame, 0 to 1.
    faults
        What `fetalmlops.domain.models.screening.screen_frame` says of the best frame; looked at first.

    Examples
    --------
    >>> from fetalmlops.domain.models.manifest import DecisionRule
    >>> rule = DecisionRule(accept=0.8, accept_brain=0.7)
    >>> decide(rule, Plane.BRAIN, 0.9, 0.5, 0.4, 0.2)
    Verdict(decision=<Decision.REVIEW: 'review'>, reasons=('brain-plane',))
    """
    tests = {
        **dict.fromkeys(faults, True),
        REASON_OOD: ood_score is not None and ood_score > rule.ood_limit,
        REASON_QUALITY: contrast < rule.least_contrast,
        REASON_CONFIDENCE: confidence < rule.accept,
        REASON_BRAIN_PLANE: plane is Plane.BRAIN
        and brain_confidence is not None
        and brain_confidence < rule.accept_brain,
    }
    reasons = tuple(reason for reason, holds in tests.items() if holds)
    if _NOT_JUDGED.intersection(reasons):
        return Verdict(Decision.OUT_OF_SCOPE, reasons)
    return Verdict(Decision.REVIEW if reasons else Decision.ACCEPT, reasons)


def decision_digest(rule: DecisionRule) -> str:
    """Return the SHA-256, as 64 hexadecimal digits, of everything that decides: this rule's version and its thresholds."""
    text = msgspec.json.encode({"version": _RULE_VERSION, "rule": rule}, order="deterministic")
    return hashlib.sha256(text).hexdigest()


def least_confidence(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], target: float, floor: float = 0.5
) -> float:
    """Return the least threshold at which the accepted held-out images are right often enough.

    Parameters
    ----------
    confidence
        Calibrated probability of the likeliest class, [images].
    correct
        Whether it is right, [images].
    target
        Accuracy that all images at or above the threshold must reach together.
    floor
        Threshold that is never undercut: below one half, another class may be as likely.

    Returns
    -------
    float
        The threshold; 1 where no threshold reaches the target.

    Examples
    --------
    >>> least_confidence(np.array([0.6, 0.7, 0.8, 0.9]), np.array([True, False, True, True]), 1.0)
    0.8
    """
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    reached = confidence[order][accuracy >= target]
    return max(floor, float(reached[-1])) if len(reached) else 1.0
