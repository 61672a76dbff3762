"""Counters of energy: the processors' by the kernel's power capping class (RAPL), an accelerator's by NVML."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from fetalmlops.domain.energy.attribution import counted
from fetalmlops.domain.errors import FetalMLOpsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CounterError", "EnergyCounter", "NvmlCounter", "RaplCounter"]

_MICRO: Final = 1e-6
_MILLI: Final = 1e-3


class CounterError(FetalMLOpsError):
    """A counter of energy is not there, or may not be read."""


class EnergyCounter(Protocol):
    """Counts joules from when it was opened."""

    @property
    def source(self) -> str:
        """What is counted, by what."""

    def joules(self) -> float:
        """Return the joules since it was opened.

        Raises
        ------
        CounterError
            If it cannot be read.
        """


class RaplCounter:
    """All processor packages of this machine.

    Parameters
    ----------
    root
        Folder of the power capping class.

    Raises
    ------
    CounterError
        If there is no package, or its counter may not be read.
    """

    def __init__(self, root: Path) -> None:
        # A package is a zone of the first level; those below it are parts of it, psys is the whole platform.
        zones = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
        self._packages = [_Package(path) for path in zones if _is_package(path)]
        if not self._packages:
            msg = f"Expected energy counters of processor packages in {root}, got none; energy is modelled"
            raise CounterError(msg)
        self._joules = 0.0

    @property
    def source(self) -> str:
        """What is counted."""
        return f"RAPL, {len(self._packages)} package{'s' if len(self._packages) > 1 else ''}"

    def joules(self) -> float:
        """Return the joules since it was opened; see `EnergyCounter`."""
        self._joules += sum(package.step() for package in self._packages) * _MICRO
        return self._joules


class _Package:
    """The counter of one package, in microjoules; it begins again from 0 every few minutes to hours."""

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._limit = _read(zone / "max_energy_range_uj")
        self._last = _read(self._file)

    def step(self) -> int:
        before, self._last = self._last, _read(self._file)
        return counted(before, self._last, self._limit)


def _is_package(zone: Path) -> bool:
    try:
        return (zone / "name").read_text("ascii").startswith("package")
    except (OSError, ValueError):
        return False


def _read(path: Path) -> int:
    try:
        return int(path.read_text("ascii"))
    except PermissionError:
        msg = f"Expected to be allowed to read {path}, got a refusal; give the service the right; till then energy is modelled"
        raise CounterError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"Expected a count of microjoules in {path}, got {type(error).__name__}; energy is modelled"
        raise CounterError(msg) from None


class NvmlCounter:
    """One GPU, by NVIDIA's management library.

    Parameters
    ----------
    index
        Number of the GPU among those that this process may use.
    nvml
        The binding; default: ``pynvml``, where it is installed.

    Raises
    ------
    CounterError
        If the binding, the driver, the GPU or its counter is not there.
    """

    def __init__(self, index: int = 0, nvml: Any = None) -> None:
        self._index = index
        self._nvml = nvml or _binding()
        try:
            self._nvml.nvmlInit()
            self._handle = self._find(index)
            name = self._nvml.nvmlDeviceGetName(self._handle)
            self._last = self._count()
        except self._nvml.NVMLError as error:
            msg = f"Expected an energy counter of GPU {index}, got {type(error).__name__}; its energy is not counted"
            raise CounterError(msg) from None
        self._name = name.decode() if isinstance(name, bytes) else str(name)
        self._millijoules = 0

    @property
    def source(self) -> str:
        """What is counted."""
        return f"NVML, GPU {self._index}, {self._name}"

    def joules(self) -> float:
        """Return the joules since it was opened; see `EnergyCounter`."""
        try:
            now = self._count()
        except self._nvml.NVMLError as error:
            msg = f"Expected the energy counter of the GPU, got {type(error).__name__}; its energy is not counted"
            raise CounterError(msg) from None
        before, self._last = self._last, now
        # It counts from the loading of the driver and never begins again, unless that is loaded anew.
        self._millijoules += counted(before, now, 0)
        return self._millijoules * _MILLI

    def _count(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def _find(self, index: int) -> Any:
        visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        name = visible[index] if index < len(visible) else str(index)
        if name.isdecimal():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(name))
        return self._nvml.nvmlDeviceGetHandleByUUID(name)


def _binding() -> Any:
    try:
        import pynvml
    except ImportError:
        msg = 'Expected NVIDIA\'s management library, got no nvidia-ml-py; install it: pip install "fetalmlops[torch]"'
        raise CounterError(msg) from None
    return pynvml
