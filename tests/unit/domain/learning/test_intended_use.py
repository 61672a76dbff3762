"""The packaged intended use is whole; a file with a gap, a misspelt floor or a control of nothing is refused."""

from __future__ import annotations

import pytest

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.learning.intended_use import intended_use_digest, parse_intended_use
from fetalmlops.platform.learning.intended_use import packaged_intended_use

PACKAGED = packaged_intended_use()


def test_the_packaged_one_is_a_proposal_with_a_floor_for_every_plane() -> None:
    use = parse_intended_use(PACKAGED)
    assert use.status == "proposal"
    assert set(use.accuracy.plane_recall) == set(PLANES) == set(use.purpose.planes)
    assert len(intended_use_digest(PACKAGED)) == 64


def test_every_floor_of_safety_controls_a_hazard() -> None:
    use = parse_intended_use(PACKAGED)
    controls = {control for hazard in use.hazards for control in hazard.controls}
    expected = {
        "accuracy.plane_recall",
        "accuracy.scanner_macro_f1",
        "accuracy.worst_group_gap",
        "calibration.ece",
        "selective.risk",
        "scope.false_accepts",
    }
    assert expected <= controls


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"format = 1", b"format = 2", "of format 1, got 2"),
        (b"macro_f1 = 0.90", b"macro_f1 = 1.2", r"accuracy\.macro_f1"),
        (b"macro_f1 = 0.90", b"macr_f1 = 0.90", "unknown field `macr_f1`"),
        (b", cervix = 0.95", b"", "got none for cervix"),
        (b"cervix = 0.95", b"knee = 0.95", r"accuracy\.plane_recall among"),
        (b"trans-ventricular = 0.60", b"trans-something = 0.60", r"accuracy\.brain_recall among"),
        (b"from = 18, to = 40", b"from = 40, to = 18", "got 40 to 18"),
        (b'"selective.risk"', b'"selective.rsik"', "controls of H1"),
        (b'id = "H2"', b'id = "H1"', "got one twice"),
        (b'status = "proposal"', b'status = "maybe"', "status"),
        (b"[selective]", b"[selective", "breaks it"),
    ],
)
def test_a_file_that_is_wrong_is_refused(old: bytes, new: bytes, message: str) -> None:
    assert old in PACKAGED
    with pytest.raises(ContractError, match=message) as caught:
        parse_intended_use(PACKAGED.replace(old, new, 1))
    assert caught.value.reason == "intended-use"


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"format = 1"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="Expected an intended use"):
        parse_intended_use(data)
