"""The quarantine ledger: which entries are open, and when a parked one is due for a replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from fetalmlops.domain.contracts.events import QuarantineKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.contracts.events import EventQuarantined

__all__ = ["Ledger", "OpenEntry", "Place"]


@dataclass(frozen=True)
class Place:
    """Where an entry's record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class OpenEntry:
    """One open entry.

    Parameters
    ----------
    entry
        The entry without its value and headers, which stay on the topic.
    place
        Where the whole entry lies.
    time_ms
        When it was made.
    replayed_ms
        When it was last replayed without an outcome so far; None if never.
    """

    entry: EventQuarantined
    place: Place
    time_ms: int
    replayed_ms: int | None = None


class Ledger:
    """Folds entries and resolutions, in any order, into the open entries.

    Examples
    --------
    >>> Ledger().open()
    []
    """

    def __init__(self) -> None:
        self._entries: dict[str, OpenEntry] = {}
        self._resolved: set[str] = set()

    def add(self, entry: EventQuarantined, place: Place, time_ms: int) -> None:
        """Take an entry in; repetitions and twins of one that is known change nothing."""
        known = self._entries.get(entry.entry_id)
        if entry.entry_id in self._resolved or (known and (known.entry.headers or not entry.headers)):
            return
        kept = msgspec.structs.replace(entry, value=None, headers=entry.headers[:1])
        self._entries[entry.entry_id] = OpenEntry(entry=kept, place=place, time_ms=time_ms)

    def close(self, entry_id: str) -> None:
        """Close an entry, whether it is known already or comes later."""
        self._resolved.add(entry_id)
        self._entries.pop(entry_id, None)

    def replayed(self, entry_id: str, now_ms: int) -> None:
        """Note that an entry was replayed."""
        if entry_id in self._entries:
            self._entries[entry_id] = replace(self._entries[entry_id], replayed_ms=now_ms)

    def open(self) -> list[OpenEntry]:
        """Return the open entries, oldest first."""
        return sorted(self._entries.values(), key=lambda item: (item.time_ms, item.entry.entry_id))

    def origins(self) -> set[str]:
        """Return the origins that open entries name: their objects must stay."""
        return {item.entry.origin for item in self._entries.values() if item.entry.origin}

    def due(self, now_ms: int, first_s: float, last_s: float) -> Iterable[OpenEntry]:
        """Yield the parked entries to replay now.

        Parameters
        ----------
        now_ms
            Now, milliseconds since the epoch.
        first_s, last_s
            Delay before the first replay, which doubles with each one, and the longest delay, in seconds.
        """
        for item in self.open():
            if item.entry.kind is not QuarantineKind.TRANSIENT:
                continue
            delay_ms = 1000 * min(first_s * 2.0 ** min(item.entry.replay_number, 32), last_s)
            if now_ms - (item.replayed_ms or item.time_ms) >= delay_ms:
                yield item
