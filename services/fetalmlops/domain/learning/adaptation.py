"""Fitting a bundle's numbers to a site by its labelled images: temperature, thresholds and limit.

Every figure comes from images of patients that had no part in what it judges: folds are made of patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.contracts.planes import PLANES, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.learning.summary import part
from fetalmlops.domain.models.calibration import fit_temperature, negative_log_likelihood, softmax
from fetalmlops.domain.models.manifest import Calibration, DecisionRule
from fetalmlops.domain.models.selective import patients_needed, selective_threshold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import ImageEntry
    from fetalmlops.domain.learning.predictions import Predictions
    from fetalmlops.domain.models.evidence import SelectiveThreshold

__all__ = ["SiteFit", "calibrate_site", "check_planes", "check_site", "patient_folds"]

_FOLDS: Final = 5
_QUANTILE: Final = 0.99
_STEPS: Final = 20
_SLACK: Final = 1e-3


@dataclass(frozen=True)
class SiteFit:
    """What a site's images say a bundle's numbers should be.

    Parameters
    ----------
    calibration, decision
        The new temperatures and thresholds.
    thresholds
        What stands behind the thresholds, by head.
    held
        The site's images with the temperature that other patients ask for: what its figures may be taken from.
    kept_held
        The same of the images of the old site, None where none were given.
    patients
        Patients of the site with a label.
    """

    calibration: Calibration
    decision: DecisionRule
    thresholds: dict[str, SelectiveThreshold]
    held: Predictions
    kept_held: Predictions | None
    patients: int


def patient_folds(patients: NDArray[np.str_], seed: int = 0, folds: int = _FOLDS) -> NDArray[np.int64]:
    """Return the fold of each image, [images]: all images of a patient are in one.

    Examples
    --------
    >>> len(set(patient_folds(np.array(["a", "a", "b", "c", "c"]), folds=3)[[0, 1]].tolist()))
    1
    """
    names, index = np.unique(patients, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.asarray((order % folds)[index], np.int64)


def check_site(images: Sequence[ImageEntry], target: float, level: float = 0.95, *, use: str = "") -> None:
    """Refuse images from which nothing can be learnt for a site.

    Parameters
    ----------
    images
        Labelled images.
    target, level
        Highest wished share of patients in error among the accepted, and the confidence of its bound.
    use
        What the images are for, if that is less than all.

    Raises
    ------
    ContractError
        If all labels are of one plane (reason ``one-class``), or there are too few patients to bound the risk
        (``too-few-patients``); the text says how many are needed.
    """
    if len({image.plane for image in images}) < 2:
        msg = (
            "Expected labels of two planes at least, got one; one-class data can be reported only, add images of others"
        )
        raise ContractError(msg, reason="one-class")
    found, needed = len({image.patient for image in images}), patients_needed(target, level)
    if found < needed:
        msg = (
            f"Expected {needed} patients at least{use}, to bound a risk of {target:g} at {level:g} even without an error, got "
            f"{found}; label images of more patients, or wish for a higher risk"
        )
        raise ContractError(msg, reason="too-few-patients")


def check_planes(images: Sequence[ImageEntry]) -> None:
    """Refuse images for a change of the network that do not show every plane: those that are not shown would be unlearnt.

    Raises
    ------
    ContractError
        If a plane has no image (reason ``planes-missing``).
    """
    if missing := [str(plane) for plane in PLANES if not any(image.plane == plane for image in images)]:
        msg = f"Expected images of every plane to change the network, got none of {', '.join(missing)}; add some, or calibrate"
        raise ContractError(msg, reason="planes-missing")


def calibrate_site(
    known: Predictions, rule: DecisionRule, *, target: float, level: float = 0.95, kept: Predictions | None = None
) -> SiteFit:
    """Fit temperatures, thresholds and the out-of-scope limit.

    A temperature changes only where one fitted on other patients lowers the loss, and falls only where there are errors.

    Parameters
    ----------
    known
        Predictions on the site's labelled images; see `check_site`.
    rule
        The bundle's thresholds.
    target, level
        Highest wished share of patients in error among the accepted, and the confidence of its bound.
    kept
        Predictions on labelled images of the site that the bundle served so far: the temperature moves towards the new site
        only as far as their loss does not rise, and the threshold is no lower than they ask for.
    """
    temperature = _kept_temperature(known, kept)
    held, kept_held = _crossed(known, kept, temperature)
    if _loss(held) >= _loss(known):
        # Another temperature does no better on patients that it was not fitted on.
        temperature, held, kept_held = known.calibration.temperature, known, kept
    fit = _selective(held.probabilities, known.labels, known.patients, target, level)
    accept = fit.threshold if fit.met else max(fit.threshold, rule.accept)
    if kept_held is not None:
        asked = _selective(kept_held.probabilities, kept_held.labels, kept_held.patients, target, level)
        accept = max(accept, asked.threshold)
    thresholds = {"planes": fit}
    calibration = Calibration(temperature=temperature, brain_temperature=known.calibration.brain_temperature)
    scores = known.ood[np.isfinite(known.ood)]
    limit = max(rule.ood_limit, float(np.quantile(scores, _QUANTILE))) if len(scores) else rule.ood_limit
    decision = DecisionRule(
        accept=round(accept, 4),
        accept_brain=rule.accept_brain,
        ood_limit=round(limit, 4),
        least_contrast=rule.least_contrast,
    )
    calibration, decision = _brain(known, calibration, decision, thresholds, target, level)
    return SiteFit(
        calibration=calibration,
        decision=decision,
        thresholds=thresholds,
        held=held,
        kept_held=kept_held,
        patients=len(np.unique(known.patients)),
    )


def _kept_temperature(known: Predictions, kept: Predictions | None) -> float:
    old, new = known.calibration.temperature, fit_temperature(known.logits, known.labels)
    if (known.logits.argmax(axis=1) == known.labels).all():
        # Without an error the loss falls with the temperature to no end: that is no reason for more confidence.
        new = max(old, new)
    if kept is None:
        return new
    allowed = _loss(kept) + _SLACK
    for part_of_way in np.linspace(1, 0, _STEPS + 1).tolist():
        tried = float(np.exp(part_of_way * np.log(new) + (1 - part_of_way) * np.log(old)))
        if negative_log_likelihood(softmax(kept.logits, tried), kept.labels) <= allowed:
            return tried
    return old


def _crossed(
    known: Predictions, kept: Predictions | None, temperature: float
) -> tuple[Predictions, Predictions | None]:
    """Return the images of both sites, each at the temperature that other patients of both ask for."""
    folds = patient_folds(known.patients)
    kept_folds = None if kept is None else patient_folds(kept.patients)
    found = np.empty(len(known))
    kept_found = np.full(0 if kept is None else len(kept), temperature)
    for fold in np.unique(folds):
        others = None if kept is None else np.flatnonzero(kept_folds != fold)
        kept_others = part(kept, others) if kept is not None and others is not None and len(others) else None
        found[folds == fold] = each = _kept_temperature(part(known, np.flatnonzero(folds != fold)), kept_others)
        if kept is not None:
            kept_found[kept_folds == fold] = each
    return _tempered(known, found, temperature), None if kept is None else _tempered(kept, kept_found, temperature)


def _tempered(known: Predictions, found: NDArray[np.float64], temperature: float) -> Predictions:
    """Return predictions whose probabilities are those at a temperature of each image's own."""
    calibration = Calibration(temperature=temperature, brain_temperature=known.calibration.brain_temperature)
    logits = (known.logits * (temperature / found)[:, None]).astype(np.float32)
    return replace(known, logits=logits, calibration=calibration)


def _crossed_brain(
    logits: NDArray[np.float32], labels: NDArray[np.int64], patients: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return each image's probabilities of the sub-planes by a temperature of other patients."""
    folds = patient_folds(patients)
    found = np.empty(logits.shape)
    for fold in np.unique(folds):
        rest = folds != fold
        found[~rest] = softmax(logits[~rest], fit_temperature(logits[rest], labels[rest]))
    return found


def _loss(known: Predictions) -> float:
    return negative_log_likelihood(known.probabilities, known.labels)


def _selective(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    patients: NDArray[np.str_],
    target: float,
    level: float,
) -> SelectiveThreshold:
    correct = probabilities.argmax(axis=1) == labels
    return selective_threshold(probabilities.max(axis=1), correct, patients, target=target, level=level)


def _brain(
    known: Predictions,
    calibration: Calibration,
    decision: DecisionRule,
    thresholds: dict[str, SelectiveThreshold],
    target: float,
    level: float,
) -> tuple[Calibration, DecisionRule]:
    brain = (known.brain_labels != NO_LABEL) & (known.labels == PLANES.index(Plane.BRAIN))
    labels, patients = known.brain_labels[brain], known.patients[brain]
    enough = len(np.unique(patients)) >= patients_needed(target, level) and len(np.unique(labels)) > 1
    if not enough or not known.brain_logits.shape[1]:
        return calibration, decision
    logits = known.brain_logits[brain]
    fit = _selective(_crossed_brain(logits, labels, patients), labels, patients, target, level)
    thresholds["brain_planes"] = fit
    return (
        Calibration(temperature=calibration.temperature, brain_temperature=fit_temperature(logits, labels)),
        DecisionRule(
            accept=decision.accept,
            accept_brain=fit.threshold if fit.met else max(fit.threshold, decision.accept_brain),
            ood_limit=decision.ood_limit,
            least_contrast=decision.least_contrast,
        ),
    )
