"""Three times what the service can do: what is admitted is answered in time, the rest is refused cleanly, memory stays flat."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.settings import Settings
from support.load import BROKEN_OFF, Outcomes, call_messages, closed_loop, open_loop, smooth_frames
from support.serving import promote_files, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FRAMES = 8
TIMEOUT_S = 2.0
# A sender that shares its cores with what it overloads sees an answer later than it came.
LAG_S = 3.0
CLEAN = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", BROKEN_OFF}
MIB = 1 << 20
MOST_CALLS = 2000.0
# What is on its way at one moment, and not at another, in two processes; calls of 0.4 MiB that pile up would take 900 MiB.
MOST_GROWTH_MIB = 192


def resident(processes: list[psutil.Process]) -> float:
    return sum(process.memory_info().rss for process in processes) / MIB


def test_three_times_its_capacity(embedded: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(promote_files(embedded, bundled_files()))
    messages = call_messages(smooth_frames(FRAMES))
    variables = {"FETALMLOPS_INFERENCE__PROCESSES": "2", "FETALMLOPS_INFERENCE__PRECISION": "f32"}
    with serving(embedded, **variables) as service:
        service.wait_for_all(2)
        target, processes = service.target, [psutil.Process(pid) for pid in service.pids.values()]
        capacity = asyncio.run(closed_loop(target, messages, callers=8, seconds=4)).rate

        def overload(per_second: float) -> Outcomes:
            return asyncio.run(open_loop(target, messages, per_second=per_second, seconds=6, timeout_s=TIMEOUT_S))

        # The first overload fills queues and allocators; the second one must add nothing. Others may have slowed down the
        # machine while its capacity was measured: then more is asked.
        per_second = 3 * capacity
        while "RESOURCE_EXHAUSTED" not in overload(per_second).statuses and per_second < MOST_CALLS:
            per_second *= 2
        before = resident(processes)
        found = overload(per_second)
        growth = resident(processes) - before
        after = asyncio.run(closed_loop(target, messages, callers=2, seconds=2))
        report = service.report()
    with capsys.disabled():
        print(
            f"\ncapacity {capacity:.1f} calls/s; of {per_second:.0f}/s: {dict(found.statuses)}, answered p50 "
            f"{found.latency(50) * 1e3:.0f} ms, p99 {found.latency(99) * 1e3:.0f} ms; {before:.0f} MiB and {growth:+.0f}"
        )
    assert set(found.statuses) <= CLEAN, found.statuses
    assert found.statuses["OK"] > 0
    assert found.statuses["RESOURCE_EXHAUSTED"] > 0
    assert found.latency(99) < TIMEOUT_S + LAG_S
    assert growth < MOST_GROWTH_MIB
    # And it is as before at once.
    assert set(after.statuses) == {"OK"}
    assert report["ready"]
