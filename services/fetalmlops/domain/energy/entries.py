"""What the ledger of energy keeps: one entry for each day, run of a process, share and source."""

from __future__ import annotations

from msgspec import Struct

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.domain.energy.attribution import Share

__all__ = ["MACHINE", "Entry"]

MACHINE = "machine"
"""Name under which the idle power of a machine stands: it is no process's."""


class Entry(Struct, frozen=True, kw_only=True):
    """Totals of one UTC day.

    Parameters
    ----------
    process
        Name of the process, or `MACHINE`.
    share, method, source
        What the joules are for, how they are known, and the counter or model that they are from.
    joules
        Energy.
    seconds, cpu_s
        Time that was metered, and the process's processor time in it.
    images, frames
        What was served meanwhile; 0 for a process that serves none.
    """

    process: str
    share: Share
    method: EnergyMethod
    source: str
    joules: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0
    images: int = 0
    frames: int = 0

    def plus(self, other: Entry) -> Entry:
        """Return both together, named as this one."""
        return Entry(
            process=self.process,
            share=self.share,
            method=self.method,
            source=self.source,
            joules=self.joules + other.joules,
            seconds=self.seconds + other.seconds,
            cpu_s=self.cpu_s + other.cpu_s,
            images=self.images + other.images,
            frames=self.frames + other.frames,
        )
