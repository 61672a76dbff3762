"""No reason goes unexplained."""

from __future__ import annotations

import pytest

from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.deid.survey.reasons import DEADLINE, DEADLY, UNEXPECTED, explain_reason
from fetalmlops.domain.imaging.faults import Fault


@pytest.mark.parametrize("reason", [*Refusal, *Fault, DEADLINE, DEADLY, UNEXPECTED])
def test_each_reason_has_its_own_explanation(reason: str) -> None:
    assert explain_reason(reason) != explain_reason("none of these")
