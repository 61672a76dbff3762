from __future__ import annotations

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.benefit import check_benefit, evident, weigh
from fetalmlops.domain.learning.predictions import Predictions
from fetalmlops.domain.models.calibration import softmax
from fetalmlops.domain.models.manifest import Calibration
from support.datasets import entry


def said(temperature: float, *, patients: int = 80, seed: int = 0, wrong: float = 0.0) -> Predictions:
    """What is right at a temperature of 1, said with another; two images a patient, a share of them with swapped logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (2 * patients, 6))
    labels = [int(rng.choice(6, p=row)) for row in softmax(logits)]
    swapped = rng.random(len(labels)) < wrong
    logits[swapped] = logits[swapped][:, ::-1]
    count = len(labels)
    return Predictions(
        images=[
            entry(index, patient=f"p{index // 2}", plane=PLANES[label], brain_plane=None)
            for index, label in enumerate(labels)
        ],
        logits=(logits / temperature).astype(np.float32),
        brain_logits=np.zeros((count, 0), np.float32),
        features=np.zeros((count, 2), np.float32),
        ood=np.zeros(count),
        contrast=np.ones(count),
        sharpness=np.ones(count),
        calibration=Calibration(),
    )


def test_what_is_shown_better_and_no_worse_passes_and_is_kept_with_its_interval() -> None:
    benefit = weigh(said(0.3), said(1.0), said(1.0, seed=1), said(1.0, seed=1))
    check_benefit(benefit)
    loss = evident(benefit.site)["negative_log_likelihood_difference"]
    assert loss.low < loss.value < loss.high < 0
    assert (loss.images, loss.patients) == (160, 80)


@pytest.mark.parametrize(("old", "new", "patients"), [(1.0, 1.0, 80), (1.0, 0.3, 80), (0.8, 1.0, 6)])
def test_what_is_not_shown_better_is_refused_with_the_figures(old: float, new: float, patients: int) -> None:
    with pytest.raises(ContractError, match=rf"change of \S+ \(\S+ to \S+\) over {patients} patients") as caught:
        check_benefit(weigh(said(old, patients=patients), said(new, patients=patients)))
    assert caught.value.reason == "no-better"


@pytest.mark.parametrize(("patients", "wrong"), [(80, 0.2), (6, 0.1)])
def test_what_is_not_shown_to_leave_the_old_site_as_it_was_is_refused(patients: int, wrong: float) -> None:
    before, after = said(1.0, seed=1, patients=patients), said(1.0, seed=1, patients=patients, wrong=wrong)
    with pytest.raises(ContractError, match=r"served so far .* accuracy of") as caught:
        check_benefit(weigh(said(0.3), said(1.0), before, after))
    assert caught.value.reason == "worse"
