"""The ledger of energy in Valkey: one hash a UTC day, which every process adds its totals to.

A field belongs to one run of a process and holds its total of that day, so that writing it again changes nothing.
"""

from __future__ import annotations

import platform
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from fetalmlops.domain.energy.entries import Entry
from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from redis import Redis

__all__ = ["EnergyLedger", "machine_id"]

_KEEP_S: Final = 800 * 86_400
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class EnergyLedger:
    """The ledger.

    Parameters
    ----------
    valkey
        Connection.
    """

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey

    def write(self, day: date, totals: Mapping[str, Entry]) -> None:
        """Write the totals of a day, by field.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        with valkey_errors(), self._valkey.pipeline() as commands:
            commands.hset(_key(day), mapping={field: msgspec.json.encode(entry) for field, entry in totals.items()})
            commands.expire(_key(day), _KEEP_S)
            commands.execute()

    def read(self, first: date, last: date) -> Iterator[tuple[date, Entry]]:
        """Yield the entries of the days from `first` to `last`, both included. Raises as `write`."""
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            with valkey_errors():
                fields = self._valkey.hgetall(_key(day))
            for value in fields.values():
                yield day, msgspec.json.decode(value, type=Entry)

    def claim_idle(self, machine: str, source: str, run: str, seconds: float) -> bool:
        """Return whether a run of a process is the one that counts what a machine takes idle, for so many seconds from now on.

        Raises as `write`.
        """
        key, expiry_ms = f"energy:idle:{machine}:{source}", round(1000 * seconds)
        with valkey_errors():
            holder = self._valkey.set(key, run, nx=True, px=expiry_ms, get=True)
            if holder is not None:
                if holder != run.encode():
                    return False
                self._valkey.pexpire(key, expiry_ms)
        return True


def machine_id() -> str:
    """Return what tells this machine from others: the same in all of its containers, where the kernel says it."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return platform.node()


def _key(day: date) -> str:
    return f"energy:{day.isoformat()}"
