from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES, BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.adaptation import calibrate_site, check_planes, check_site, patient_folds
from fetalmlops.domain.learning.heads import fit_head
from fetalmlops.domain.learning.manifest import ImageEntry, Split
from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.models.calibration import negative_log_likelihood, softmax
from fetalmlops.domain.models.manifest import Calibration, DecisionRule

RULE = DecisionRule(accept=0.6, accept_brain=0.6)


def site(patients: int, *, sharpness: float = 1.0, seed: int = 0, planes: int = 6, ood: float = 0.5) -> Predictions:
    """Images whose probabilities are right at a temperature of `sharpness`, three a patient."""
    rng = np.random.default_rng(seed)
    count = 3 * patients
    logits = rng.normal(0, 3, (count, 6))
    logits[:, planes:] -= 50
    labels = [int(rng.choice(6, p=row)) for row in softmax(logits)]
    images = [
        ImageEntry(
            path=f"{index}.png", sha256="0" * 64, pixels="0" * 64, hash="0" * 16, patient=f"p{index // 3}", split=Split.TEST,
            plane=PLANES[label], brain_plane=BrainPlane.OTHER if PLANES[label] is Plane.BRAIN else None, rows=1, columns=1,
        )
        for index, label in enumerate(labels)
    ]  # fmt: skip
    return Predictions(
        images=images,
        logits=(logits * sharpness).astype(np.float32),
        brain_logits=np.zeros((count, 4), np.float32),
        features=np.zeros((count, 2), np.float32),
        ood=np.full(count, ood),
        contrast=np.full(count, 0.2),
        sharpness=np.full(count, 0.1),
        calibration=Calibration(),
    )


def loss(known: Predictions) -> float:
    return negative_log_likelihood(known.probabilities, known.labels)


def test_folds_keep_patients_whole_and_cover_all() -> None:
    known = site(40)
    folds = patient_folds(known.patients)
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}
    for patient in np.unique(known.patients):
        assert len(set(folds[known.patients == patient].tolist())) == 1


def test_the_temperature_of_the_site_is_found_and_the_loss_falls_on_other_patients() -> None:
    fit = calibrate_site(site(200, sharpness=4.0), RULE, target=0.3)
    assert fit.calibration.temperature == pytest.approx(4, rel=0.15)
    assert loss(fit.held) < loss(site(200, sharpness=4.0)) - 0.1
    assert fit.patients == 200


def test_a_site_that_is_calibrated_keeps_its_temperature_or_nearly() -> None:
    fit = calibrate_site(site(200), RULE, target=0.3)
    assert fit.calibration.temperature == pytest.approx(1, abs=0.12)
    assert loss(fit.held) <= loss(site(200))


def test_the_site_served_so_far_gets_no_worse() -> None:
    new, old = site(200, sharpness=4.0), site(200, seed=1)
    alone, both = (calibrate_site(new, RULE, target=0.3, kept=kept) for kept in (None, old))
    worse = negative_log_likelihood(softmax(old.logits, alone.calibration.temperature), old.labels)
    assert both.kept_held is not None
    assert worse > loss(old) + 0.1
    assert loss(both.kept_held) <= loss(old) + 0.01
    # What is told of the new site holds with the old one's limit on the temperature, not without.
    assert loss(alone.held) < loss(both.held) < loss(new)
    final = negative_log_likelihood(softmax(new.logits, both.calibration.temperature), new.labels)
    assert loss(both.held) == pytest.approx(final, abs=0.05)


def test_few_patients_of_the_old_site_leave_no_image_without_a_temperature() -> None:
    few = site(1, seed=1)
    fit = calibrate_site(site(200, sharpness=4.0), RULE, target=0.3, kept=few)
    assert fit.kept_held is not None
    assert np.isfinite(fit.kept_held.probabilities).all()


def test_images_without_an_error_lower_no_temperature() -> None:
    known = site(60)
    right = replace(known, logits=(np.eye(6)[known.labels] * 4).astype(np.float32))
    assert calibrate_site(right, RULE, target=0.3).calibration.temperature == 1.0


def test_the_limit_is_raised_for_a_site_that_lies_farther_and_never_lowered() -> None:
    assert calibrate_site(site(60, ood=1.7), RULE, target=0.3).decision.ood_limit == pytest.approx(1.7)
    assert calibrate_site(site(60, ood=0.2), RULE, target=0.3).decision.ood_limit == 1.0


def test_a_risk_that_cannot_be_shown_lowers_no_threshold() -> None:
    fit = calibrate_site(site(60), DecisionRule(accept=0.95, accept_brain=0.6), target=0.01)
    assert not fit.thresholds["planes"].met
    assert fit.decision.accept >= 0.95


def test_one_class_is_refused() -> None:
    with pytest.raises(ContractError, match="two planes") as caught:
        check_site(site(100, planes=1).images, 0.05)
    assert caught.value.reason == "one-class"


def test_too_few_patients_are_told_how_many_are_needed() -> None:
    with pytest.raises(ContractError, match="Expected 59 patients") as caught:
        check_site(site(58).images, 0.05)
    assert caught.value.reason == "too-few-patients"
    check_site(site(59).images, 0.05)


def shifted(seed: int, patients: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(6, size=3 * patients)
    embedding = rng.normal(0, 1, (len(labels), 12)) + np.eye(6, 12)[labels] * 3
    # The old head mistakes two planes for each other at this site.
    logits = np.eye(6)[np.array([1, 0, 2, 3, 4, 5])[labels]] * 3
    return (
        logits.astype(np.float32),
        embedding.astype(np.float32),
        labels,
        np.repeat(np.arange(patients).astype(str), 3),
    )


def test_a_head_learns_what_the_site_shows_and_holds_on_new_patients() -> None:
    logits, embedding, labels, patients = shifted(0)
    change = fit_head(logits, embedding, labels, patients)
    fresh, seen, truth, _ = shifted(1)
    changed = fresh + seen @ change.weight + change.bias
    before, after = ((each.argmax(axis=1) == truth).mean() for each in (fresh, changed))
    assert before < 0.75
    assert after > 0.9
    assert (change.logits.argmax(axis=1) == labels).mean() > 0.9


def test_planes_that_the_site_does_not_show_are_not_unlearnt() -> None:
    check_planes(site(100).images)
    with pytest.raises(ContractError, match="none of femur, cervix") as caught:
        check_planes(site(100, planes=4).images)
    assert caught.value.reason == "planes-missing"
