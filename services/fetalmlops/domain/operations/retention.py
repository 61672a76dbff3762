"""Lifetimes of objects: what may be deleted now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CLEAN_CLASSES", "Lifetimes", "hour_age_days"]

CLEAN_CLASSES: tuple[str, ...] = ("instances", "frames", "explanations", "embeddings", "overlays")
"""Object classes of the clean zone that end with `Lifetimes.clean_days`."""

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Lifetimes:
    """How long objects stay, in days.

    Parameters
    ----------
    phi_days
        Days that a phi instance stays after its way ended.
    clean_days
        Days that objects of the clean zone stay.
    """

    phi_days: float
    clean_days: float

    def phi_expired(self, origin: str, done_ms: int | None, now_ms: int, held: Collection[str]) -> bool:
        """Return whether a phi instance may go: its way ended long enough ago and no open quarantine entry names it.

        Parameters
        ----------
        origin
            Arrival hour and object name.
        done_ms
            When its done marker was written; None if its way has not ended.
        now_ms
            Now.
        held
            Origins that open quarantine entries name.

        Examples
        --------
        >>> lifetimes = Lifetimes(phi_days=7, clean_days=30)
        >>> lifetimes.phi_expired("a", None, 10**15, ()), lifetimes.phi_expired("a", 0, 10**15, ())
        (False, True)
        >>> lifetimes.phi_expired("a", 0, 10**15, held=("a",))
        False
        """
        return done_ms is not None and origin not in held and now_ms - done_ms > self.phi_days * _DAY_MS

    def clean_expired(self, written_ms: int, now_ms: int) -> bool:
        """Return whether an object of the clean zone may go."""
        return now_ms - written_ms > self.clean_days * _DAY_MS


def hour_age_days(hour: str, now_ms: int) -> float:
    """Return the age of an arrival hour such as ``2026-03-01T14`` in days; 0 for a name that is none.

    Examples
    --------
    >>> hour_age_days("1970-01-02T00", 3 * 86_400_000)
    2.0
    """
    try:
        begun = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return (now_ms - begun.timestamp() * 1000) / _DAY_MS
