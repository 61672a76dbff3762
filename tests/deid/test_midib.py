"""The ten actions of the MIDI-B challenge on simulated ultrasound: all that a profile promises is required, and passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.domain.deid import PROFILES, Deidentifier, Profile
from support.midib import ACTIONS, planted_instances, score

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.simulation import SimulatedInstance


@pytest.fixture(scope="module")
def instances() -> list[SimulatedInstance]:
    return planted_instances()


def test_every_required_check_passes(key: PseudonymKey, profile: Profile, instances: list[SimulatedInstance]) -> None:
    result = score(profile, key, instances)
    assert result.failed == []
    assert sum(result.passed.values()) == sum(result.required.values()) > 900
    expected = set(ACTIONS) if profile.name == "research" else set(ACTIONS) - {"date shifted"}
    assert set(result.required) >= expected


def test_what_is_not_done_is_scored(
    key: PseudonymKey, instances: list[SimulatedInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Deidentifier.deidentify_bytes

    def nothing_done(self: Deidentifier, data: bytes, **options: Any) -> tuple[bytes, Any]:
        return data, whole(self, data, **options)[1]

    monkeypatch.setattr(Deidentifier, "deidentify_bytes", nothing_done)
    result = score(PROFILES["research"], key, instances)
    assert all(
        result.passed[action] == 0 for action in ("text removed", "date shifted", "UID changed", "pixels hidden")
    )
    assert "text not null: DeidentificationMethod" in result.failed
