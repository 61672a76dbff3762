from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.attribution import Rate, Rates, Window, counted, split

positive = st.floats(0, 1e6)


@given(seconds=st.floats(0.1, 1e4), joules=positive, others=positive, own=positive, idle_watts=st.floats(0, 1e3))
def test_the_shares_of_all_processes_and_the_idle_one_are_the_whole(
    seconds: float, joules: float, others: float, own: float, idle_watts: float
) -> None:
    ours = split(Window(seconds, joules, others + own, own), idle_watts)
    theirs = split(Window(seconds, joules, others + own, others), idle_watts)
    work = ours.own_work + theirs.own_work if others + own else joules - ours.idle
    assert work + ours.idle == pytest.approx(joules, rel=1e-6, abs=1e-6)
    assert 0 <= ours.idle <= joules
    assert min(ours.own_work, theirs.own_work) >= 0


def test_a_machine_that_takes_less_than_its_idle_power_did_no_work() -> None:
    assert split(Window(seconds=10, joules=50, busy_s=2, own_s=1), idle_watts=10).own_work == 0


def test_a_window_without_work_says_nothing_about_a_busy_core() -> None:
    assert split(Window(seconds=10, joules=101, busy_s=0.01, own_s=0.01), idle_watts=10).watts is None


def test_a_process_never_has_more_than_all_of_the_machine() -> None:
    assert split(Window(seconds=1, joules=30, busy_s=0.5, own_s=0.6), idle_watts=10).own_work == pytest.approx(20)


def test_a_counter_that_was_reset_has_counted_what_it_shows() -> None:
    assert counted(1000, 7, 0) == 7


def test_a_cost_is_measured_only_if_all_of_it_is() -> None:
    measured, modelled = (Rate(1.0, method, method) for method in (EnergyMethod.MEASURED, EnergyMethod.MODELLED))
    found = [
        Rates(processor, accelerator).cost(1.0, 1.0)
        for processor in (measured, modelled)
        for accelerator in (None, measured)
    ]
    assert [(cost.joules, str(cost.method)) for cost in found] == [
        (1.0, "measured"),
        (2.0, "measured"),
        (1.0, "modelled"),
        (2.0, "modelled"),
    ]
