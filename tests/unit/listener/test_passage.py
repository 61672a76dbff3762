"""Passages and the times of announcing again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalmlops.listener.passage import Passage, is_due

STAGES = (("first", "a"), ("second", "b"), ("third", "c"))


@dataclass
class Offsets:
    """A pipeline of three stages: `put` announces, `work` lets a stage pass on what it has."""

    end: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0, "c": 0})
    done: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0, "c": 0})

    def ends(self, topic: str) -> dict[int, int]:
        return {0: self.end[topic], 1: 0}

    def passed(self, topic: str, group: str) -> dict[int, int]:
        assert dict(STAGES)[group] == topic
        return {0: self.done[topic]}

    def put(self) -> None:
        self.end["a"] += 1

    def work(self, topic: str) -> None:
        for _ in range(self.end[topic] - self.done[topic]):
            self.done[topic] += 1
            following = {"a": "b", "b": "c"}.get(topic)
            if following:
                self.end[following] += 1


def test_nothing_on_the_way_is_a_complete_passage() -> None:
    assert Passage(STAGES, 0).advance(Offsets())


def test_a_backlog_in_any_stage_is_waited_for() -> None:
    offsets = Offsets()
    offsets.put()
    passage = Passage(STAGES, 0)
    for group, topic in STAGES:
        assert not passage.advance(offsets)
        assert passage.waiting_for == group
        offsets.work(topic)
    assert passage.advance(offsets)
    assert passage.waiting_for == ""


def test_what_comes_after_the_beginning_does_not_hold_a_passage_up() -> None:
    offsets = Offsets()
    offsets.put()
    passage = Passage(STAGES, 0)
    assert not passage.advance(offsets)
    offsets.work("a")
    offsets.put()
    assert not passage.advance(offsets)
    offsets.work("b")
    offsets.put()
    assert not passage.advance(offsets)
    offsets.work("c")
    assert passage.advance(offsets)
    assert offsets.end["a"] > offsets.done["a"]


def test_deleted_records_are_passed_though_no_stage_saw_them() -> None:
    offsets = Offsets()
    offsets.put()
    passage = Passage(STAGES, 0)
    assert not passage.advance(offsets)
    offsets.done["a"] = offsets.end["a"]
    assert passage.advance(offsets)


@given(st.lists(st.sampled_from(["put", "a", "b", "c", "advance"]), max_size=60))
def test_a_complete_passage_has_let_everything_before_it_out(steps: list[str]) -> None:
    offsets, passage, began_with = Offsets(), Passage(STAGES, 0), None
    for step in steps:
        if step == "put":
            offsets.put()
        elif step != "advance":
            offsets.work(step)
        else:
            began_with = offsets.end["a"] if began_with is None else began_with
            if passage.advance(offsets):
                assert offsets.done["c"] >= began_with
                return


@given(
    stored=st.integers(0, 10**6),
    first=st.integers(1, 10**4),
    factor=st.integers(1, 100),
    steps=st.lists(st.integers(1, 10**5), min_size=1, max_size=60),
)
def test_every_moment_falls_into_one_sweep(stored: int, first: int, factor: int, steps: list[int]) -> None:
    last = first * factor
    moments, interval, moment = [], first, stored + first
    horizon = stored + sum(steps)
    while moment <= horizon:
        moments.append(moment)
        interval = min(interval * 2, last)
        moment += interval
    sweeps, after = 0, stored
    for step in steps:
        until = after + step
        due = is_due(stored, after, until, first, last)
        assert due is any(after < moment <= until for moment in moments)
        sweeps += due
        after = until
    assert sweeps <= len(moments)


@pytest.mark.parametrize("days", [1, 30])
def test_an_old_instance_is_announced_once_an_hour(days: int) -> None:
    hour = 3_600_000
    begin = days * 24 * hour
    assert [is_due(0, begin + n * hour, begin + (n + 1) * hour, 60_000, hour) for n in range(5)] == [True] * 5
