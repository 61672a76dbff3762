"""Counters of energy, read from folders of files as the kernel makes them."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from fetalmlops.platform.energy.counters import CounterError, NvmlCounter, RaplCounter
from support.powercap import RANGE, PowercapTree


def test_packages_are_summed_and_what_is_part_of_one_is_not_counted_twice(tmp_path: Path) -> None:
    tree = PowercapTree(tmp_path, ("package-0", "package-1", "psys"))
    counter = RaplCounter(tmp_path)
    for number, joules in enumerate((10, 2.5, 1000)):
        tree.add(joules, number)
    (tmp_path / "intel-rapl:0/intel-rapl:0:0/energy_uj").write_text("5000000000\n")
    assert counter.joules() == pytest.approx(12.5)
    assert counter.source == "RAPL, 2 packages"


def test_a_counter_goes_on_where_it_begins_again(tmp_path: Path) -> None:
    tree = PowercapTree(tmp_path, ("package-0", "package-1"))
    tree.set(RANGE - 999_999)
    counter = RaplCounter(tmp_path)
    tree.add(3)
    assert int(tree.counter().read_text()) == 2_000_000
    assert counter.joules() == pytest.approx(3)
    tree.add(1)
    tree.add(1, 1)
    assert counter.joules() == pytest.approx(5)


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(CounterError, match="energy is modelled"):
            RaplCounter(root)


def test_a_counter_that_is_no_number_or_goes_away_is_told(tmp_path: Path) -> None:
    tree = PowercapTree(tmp_path)
    counter = RaplCounter(tmp_path)
    tree.counter().write_text("none\n")
    with pytest.raises(CounterError, match="got ValueError"):
        counter.joules()
    tree.counter().unlink()
    with pytest.raises(CounterError, match="got FileNotFoundError"):
        counter.joules()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Open files with the rights of another user, in this thread: root may read everything."""
    libc, own = ctypes.CDLL(None), os.geteuid()
    libc.setfsuid(65534 if own == 0 else own)
    try:
        yield
    finally:
        libc.setfsuid(own)


def test_a_counter_that_only_root_may_read_is_told() -> None:
    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o755)
        tree = PowercapTree(root)
        tree.counter().chmod(0o400 if os.geteuid() == 0 else 0)
        with as_nobody(), pytest.raises(CounterError, match="Expected to be allowed to read"):
            RaplCounter(root)
    finally:
        shutil.rmtree(root)


class Nvml(SimpleNamespace):
    """Stands for NVIDIA's binding, where there is no GPU: millijoules by the handle of a GPU."""

    class NVMLError(Exception):
        pass

    def __init__(self, **millijoules: int) -> None:
        super().__init__(millijoules=millijoules)

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"gpu{index}"

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:  # noqa: N802
        return name

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return f"name of {handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if handle not in self.millijoules:
            raise self.NVMLError
        return self.millijoules[handle]


def test_a_gpu_counts_from_when_it_was_opened_and_through_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = Nvml(gpu0=5000)
    counter = NvmlCounter(nvml=nvml)
    nvml.millijoules["gpu0"] = 7500
    assert counter.joules() == pytest.approx(2.5)
    nvml.millijoules["gpu0"] = 500
    assert counter.joules() == pytest.approx(3.0)
    assert counter.source == "NVML, GPU 0, name of gpu0"


@pytest.mark.parametrize(("visible", "name"), [("2", "gpu2"), ("3,1", "gpu3"), ("GPU-5a", "GPU-5a"), ("", "gpu0")])
def test_the_gpu_is_the_one_that_the_process_may_use(visible: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert NvmlCounter(nvml=Nvml(**{name: 1})).source.endswith(f"name of {name}")


def test_a_gpu_without_a_counter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(CounterError, match="its energy is not counted"):
        NvmlCounter(nvml=Nvml())
