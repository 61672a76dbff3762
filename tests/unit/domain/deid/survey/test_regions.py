"""A region's failing is named as what it is, and what is called valid is what proves pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.pixels.regions import RegionFlaw
from fetalmlops.domain.deid.survey.facts import read_facts
from fetalmlops.domain.deid.survey.regions import _BY_FLAW, RegionState

if TYPE_CHECKING:
    from types import ModuleType

GOOD = (8, 10, 71, 49)


@pytest.mark.parametrize(
    ("places", "state"),
    [
        ([GOOD], RegionState.VALID),
        ([GOOD, (8, 10, 71, 49, 5)], RegionState.VALID),
        ([], RegionState.ABSENT),
        ([GOOD] * 65, RegionState.MANY),
        ([GOOD, (0, 0, 70_000, 20)], RegionState.UNREADABLE),
        ([(8, 10, 80, 60)], RegionState.VALID),
        ([(8, 10, 81, 49)], RegionState.BEYOND),
        ([(8, 10, 71, 61)], RegionState.BEYOND),
        ([(71, 10, 8, 49)], RegionState.BEYOND),
        ([(8, 10, 71, 49, 0)], RegionState.NO_PICTURE),
        ([GOOD, (10, 10, 12, 12)], RegionState.SMALL),
        ([(8, 10, 23, 22)], RegionState.SMALL),
        ([(0, 0, 79, 59)], RegionState.WHOLE),
        ([(0, 0, 79, 29), (0, 30, 79, 59)], RegionState.WHOLE),
    ],
)
def test_each_failing_has_its_name(files: ModuleType, places: Any, state: RegionState) -> None:
    assert state_of(files, places) is state


def test_each_flaw_has_a_name() -> None:
    assert set(_BY_FLAW) == set(RegionFlaw)
    assert set(_BY_FLAW.values()) == set(RegionState) - {RegionState.NONE}


def test_little_is_told_from_small(files: ModuleType) -> None:
    assert state_of(files, [(0, 0, 19, 19)], rows=120, columns=160) is RegionState.LITTLE


def state_of(files: ModuleType, places: Any, **options: Any) -> RegionState:
    sample = files.make_sample(**options)
    sample.attributes[0x0018_6011] = ("SQ", [files.region(*place[:4], spatial=(*place, 1)[4]) for place in places])
    if not places:
        del sample.attributes[0x0018_6011]
    return read_facts(io.BytesIO(sample.part10()), STREAM.regions, b"").regions
