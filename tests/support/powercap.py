"""A folder as the kernel's power capping class shows energy counters."""

from __future__ import annotations

from pathlib import Path

RANGE = 262_143_328_850


class PowercapTree:
    """Zones of the first level and below, as files; `add` counts joules on."""

    def __init__(self, root: Path, names: tuple[str, ...] = ("package-0",)) -> None:
        self.root = root
        for number, name in enumerate(names):
            self._zone(f"intel-rapl:{number}", name)
            self._zone(f"intel-rapl:{number}/intel-rapl:{number}:0", "core")

    def counter(self, number: int = 0) -> Path:
        return self.root / f"intel-rapl:{number}" / "energy_uj"

    def set(self, microjoules: int, number: int = 0) -> None:
        self.counter(number).write_text(f"{microjoules}\n")

    def add(self, joules: float, number: int = 0) -> None:
        now = int(self.counter(number).read_text())
        self.set((now + round(joules * 1e6)) % (RANGE + 1), number)

    def _zone(self, place: str, name: str) -> None:
        folder = self.root / place
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("0\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
