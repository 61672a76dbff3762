"""What a shadow would change: pairs of results of the same content, and intervals over patients."""

from __future__ import annotations

import uuid
from types import ModuleType

import msgspec
import pytest

from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.planes import Decision, Plane
from fetalmlops.domain.operations.agreement import agreements


@pytest.fixture
def result(samples: ModuleType):
    """Make a result of a content, a patient and a bundle."""

    def make(content: str, patient: str, bundle: str, plane: Plane, decision: Decision) -> InstanceClassified:
        base = samples.classified(content_id=content, plane=plane, decision=decision)
        digest = (bundle * 64)[:64] if bundle else None
        return msgspec.structs.replace(
            base,
            context=msgspec.structs.replace(base.context, patient=patient),
            lineage=msgspec.structs.replace(base.lineage, bundle=bundle, bundle_version="1.0.0", bundle_digest=digest),
        )

    return make


def test_only_what_both_have_judged_is_compared(result) -> None:
    contents = [uuid.uuid4().hex for _ in range(6)]
    accept, review = Decision.ACCEPT, Decision.REVIEW
    champions = [result(each, f"{place % 3:032x}", "a", Plane.BRAIN, accept) for place, each in enumerate(contents[:5])]
    shadows = [
        result(contents[0], "0" * 32, "b", Plane.BRAIN, accept),
        result(contents[1], "1" * 32, "b", Plane.BRAIN, review),
        result(contents[2], "2" * 32, "b", Plane.FEMUR, review),
        result(contents[5], "0" * 32, "b", Plane.BRAIN, accept),
        result(contents[3], "0" * 32, "c", Plane.BRAIN, accept),
        result(contents[4], "0" * 32, "", Plane.BRAIN, accept),
    ]
    most, least = agreements(champions, shadows)
    assert (most.champion, most.shadow) == ("a 1.0.0 aaaaaaaaaaaa", "b 1.0.0 bbbbbbbbbbbb")
    assert (most.instances, most.patients) == (3, 3)
    assert most.planes.value == pytest.approx(2 / 3, abs=1e-6)
    assert most.decisions.value == pytest.approx(1 / 3, abs=1e-6)
    assert most.planes.low < most.planes.value < most.planes.high
    assert most.decision_counts == {("accept", "accept"): 1, ("accept", "review"): 2}
    assert most.plane_counts == {("brain", "brain"): 2, ("brain", "femur"): 1}
    assert (least.shadow, least.instances) == ("c 1.0.0 cccccccccccc", 1)


def test_full_agreement_of_few_patients_still_has_a_wide_interval(result) -> None:
    contents = [uuid.uuid4().hex for _ in range(100)]
    made = [
        [result(each, f"{place % 2:032x}", bundle, Plane.BRAIN, Decision.ACCEPT) for place, each in enumerate(contents)]
        for bundle in "ab"
    ]
    (found,) = agreements(*made)
    assert found.planes.value == 1
    assert found.planes.low < 0.3
