"""Trust is earned slowly, sampled ever after, and lost at once."""

from __future__ import annotations

import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid.pixels.trust import (
    CheckOutcome,
    TextVerdict,
    TrustPolicy,
    TrustState,
    decide,
    is_sampled,
    transition,
)

POLICY = TrustPolicy(clean_images=3, sample_one_in=4)


def test_trust_is_earned_by_clean_images_one_after_the_other_and_lost_by_one_finding() -> None:
    state, verdicts = TrustState(), []
    for outcome in ["clean"] * 3 + ["finding"] + ["clean"] * 2 + ["finding"] + ["clean"] * 3:
        verdicts.append(decide(state, POLICY, sampled=False).checks)
        state = transition(state, CheckOutcome(outcome))
    assert verdicts == [True, True, True, False, True, True, True, True, True, True]
    assert state == TrustState(clean=3, findings=2)
    assert decide(state, POLICY, sampled=False) is TextVerdict.TRUSTED
    assert decide(state, POLICY, sampled=True) is TextVerdict.SAMPLED_CHECKED
    assert decide(TrustState(clean=2), POLICY, sampled=True) is TextVerdict.UNTRUSTED_CHECKED


def test_the_sample_is_the_same_everywhere_of_the_asked_size_and_secret() -> None:
    key, other = PseudonymKey("tests", bytes(32)), PseudonymKey("tests", bytes(range(32)))
    contents = [f"{number:032x}" for number in range(4000)]
    sample = [is_sampled(key, content, POLICY) for content in contents]
    assert sample == [is_sampled(PseudonymKey("tests", bytes(32)), content, POLICY) for content in contents]
    assert 900 < sum(sample) < 1100
    assert sample != [is_sampled(other, content, POLICY) for content in contents]
    assert all(is_sampled(key, content, TrustPolicy(sample_one_in=1)) for content in contents[:50])


@pytest.mark.parametrize(("images", "one_in"), [(0, 20), (50, 0)])
def test_numbers_below_one_are_refused(images: int, one_in: int) -> None:
    with pytest.raises(ValueError, match="from 1 up"):
        TrustPolicy(images, one_in)
