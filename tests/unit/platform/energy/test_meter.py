"""The meter: what it makes of processor time, with a counter and without."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.attribution import Share
from fetalmlops.platform.energy.meter import Meter, Sample
from fetalmlops.platform.energy.processors import Processors, ProcessorTime, usable_processors
from fetalmlops.platform.settings import EnergySettings
from support.powercap import PowercapTree

MEASURED, MODELLED = EnergyMethod.MEASURED, EnergyMethod.MODELLED


class Machine:
    """A machine whose time passes when it is told to."""

    def __init__(self, root: Path, *, counter: bool = True) -> None:
        self.root = root
        self.tree = PowercapTree(root) if counter else None
        self.now = ProcessorTime(100.0, 50.0, 5.0)

    def meter(self, **settings: float) -> Meter:
        return Meter(EnergySettings(powercap=self.root, **settings), lambda: self.now)

    def passes(self, seconds: float, *, busy_s: float, own_s: float, joules: float = 0.0) -> None:
        now = self.now
        self.now = ProcessorTime(now.seconds + seconds, now.busy_s + busy_s, now.own_s + own_s)
        if self.tree:
            self.tree.add(joules)


def by_share(sample: Sample) -> dict[Share, tuple[float, EnergyMethod]]:
    return {share: (pytest.approx(cost.joules), cost.method) for share, cost in sample.costs}


def test_without_a_counter_work_is_processor_time_and_idle_is_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path, counter=False)
    meter = machine.meter(watts_per_core=5.0, idle_watts_per_core=1.0)
    machine.passes(10, busy_s=8, own_s=2)
    sample = meter.sample()
    assert by_share(sample) == {Share.WORK: (8.0, MODELLED), Share.IDLE: (10.0 * usable_processors(), MODELLED)}
    assert (sample.seconds, sample.cpu_s) == (10, 2)
    cost = meter.rates.cost(0.5)
    assert (cost.joules, cost.method) == (2.0, MODELLED)
    assert "5 W a busy core, 1 W an idle one" in cost.source


def test_with_a_counter_the_power_above_idle_is_shared_by_processor_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    meter = machine.meter(idle_watts=10.0)
    assert meter.rates.cost(1.0).method is MODELLED
    machine.passes(10, busy_s=4, own_s=1, joules=300)
    assert by_share(meter.sample()) == {Share.WORK: (50.0, MEASURED), Share.IDLE: (100.0, MEASURED)}
    cost = meter.rates.cost(0.1)
    assert (cost.joules, cost.method, cost.source) == (pytest.approx(5.0), MEASURED, "RAPL, 1 package")


def test_idle_power_is_the_least_that_was_seen_where_it_is_not_set(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    meter = machine.meter()
    for joules, work in ((200, 0), (100, 0), (300, 200 * 1 / 4), (100, 0)):
        machine.passes(10, busy_s=4, own_s=1, joules=joules)
        shares = by_share(meter.sample())
        assert shares[Share.WORK] == (work, MEASURED)
    # A quiet window tells no rate: the last one holds.
    assert meter.rates.cost(1.0).joules == pytest.approx(50.0)


def test_a_counter_that_is_lost_leaves_the_model(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.tree
    meter = machine.meter(idle_watts=10.0, watts_per_core=5.0, idle_watts_per_core=1.0)
    machine.passes(10, busy_s=4, own_s=1, joules=300)
    meter.sample()
    machine.tree.counter().unlink()
    for _ in range(2):
        machine.now = ProcessorTime(machine.now.seconds + 10, machine.now.busy_s + 4, machine.now.own_s + 1)
        assert by_share(meter.sample())[Share.WORK] == (4.0, MODELLED)
        assert meter.rates.cost(1.0).method is MODELLED


class Gpu:
    source = "a GPU"

    def __init__(self) -> None:
        self.counted = 0.0

    def joules(self) -> float:
        return self.counted


def test_the_work_of_an_accelerator_goes_to_the_engine_that_runs_on_it(tmp_path: Path) -> None:
    machine, gpu = Machine(tmp_path, counter=False), Gpu()
    meter = machine.meter(watts_per_core=5.0, idle_watts_per_core=1.0)
    meter.use_accelerator(gpu)
    machine.passes(10, busy_s=1, own_s=0)
    gpu.counted += 500
    meter.sample()
    machine.passes(10, busy_s=1, own_s=1)
    gpu.counted += 1500
    meter.count(run_s=2.0, images=3, frames=5)
    sample = meter.sample()
    assert [(share, cost.joules) for share, cost in sample.costs if cost.source == "a GPU"] == [
        (Share.WORK, 1000.0),
        (Share.IDLE, 500.0),
    ]
    assert (sample.images, sample.frames) == (3, 5)
    cost = meter.rates.cost(0.5, 0.01)
    assert (cost.joules, cost.method) == (pytest.approx(0.5 * 4 + 0.01 * 500), MODELLED)


def test_a_gpu_without_a_counter_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    machine = Machine(tmp_path, counter=False)
    meter = machine.meter()
    with capture_logs() as logs:
        meter.use_gpu()
    assert [(log["event"], "nvidia-ml-py" in log["reason"]) for log in logs] == [("energy_of_gpu_not_counted", True)]
    machine.passes(10, busy_s=1, own_s=1)
    assert len(meter.sample().costs) == 2


BUSY = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\nsys.stdin.read()"


@pytest.mark.parametrize(("module", "ours"), [("fetalmlops.platform.sandbox.child", True), ("of.its.own", False)])
def test_children_that_decode_count_and_others_do_not(module: str, ours: bool) -> None:
    processors = Processors()
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        before, began = processors.read(), time.process_time()
        assert child.stdout
        assert child.stdout.readline() == "done\n"
        during = processors.read()
        child.communicate()
    after = processors.read()
    own = time.process_time() - began
    counted = after.own_s - before.own_s - own
    assert (counted > 0.2) is ours
    assert after.own_s >= during.own_s
    assert after.busy_s > before.busy_s
