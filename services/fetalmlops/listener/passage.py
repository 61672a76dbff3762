"""When an unfinished instance is announced again: never while its last announcement may still be on its way.

A passage follows the stages in their order. It begins with the ends of the first topic; once the first stage's committed
offsets have passed those, it notes the ends of the second topic, and so on. When it is complete, every event that was on its
way at its beginning has left the last stage: whatever was announced before and still has no done marker was lost. So a
backlog in any stage is waited for, not multiplied, and nothing has to be remembered of a single instance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Passage", "TopicOffsets", "is_due"]


class TopicOffsets(Protocol):
    """Offsets of the topics on the way, by partition."""

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return the offsets of the next records."""

    def passed(self, topic: str, group: str) -> Mapping[int, int]:
        """Return the offsets before which no record waits for a group: its commits, or where the topic begins."""


@dataclass
class Passage:
    """One passage through the stages.

    Parameters
    ----------
    stages
        Consumer group and topic of each stage, in their order.
    horizon_ms
        Instances stored before this moment, milliseconds since the epoch, had been announced when it began.

    Examples
    --------
    >>> class Still:
    ...     def ends(self, topic): return {0: 7}
    ...     def passed(self, topic, group): return {0: 7 if group == "first" else 5}
    >>> Passage((("first", "a"),), 0).advance(Still()), Passage((("first", "a"), ("second", "b")), 0).advance(Still())
    (True, False)
    """

    stages: tuple[tuple[str, str], ...]
    horizon_ms: int
    _stage: int = 0
    _goal: Mapping[int, int] | None = field(default=None)

    @property
    def waiting_for(self) -> str:
        """The stage that has not passed yet; empty once all have."""
        return self.stages[self._stage][0] if self._stage < len(self.stages) else ""

    def advance(self, offsets: TopicOffsets) -> bool:
        """Go on as far as the stages have; return whether the passage is complete."""
        while self._stage < len(self.stages):
            group, topic = self.stages[self._stage]
            if self._goal is None:
                self._goal = offsets.ends(topic)
            passed = offsets.passed(topic, group)
            if any(passed.get(partition, 0) < goal for partition, goal in self._goal.items()):
                return False
            self._stage += 1
            self._goal = None
        return True


def is_due(stored_ms: int, after_ms: int, until_ms: int, first_ms: float, last_ms: float) -> bool:
    """Return whether an instance is to be announced again between two moments.

    It is at the age `first_ms`, then after twice that time, and so on doubling up to every `last_ms`.

    Parameters
    ----------
    stored_ms
        When it was stored.
    after_ms, until_ms
        The moments, the second included; all in milliseconds since the epoch.
    first_ms, last_ms
        First and longest time between two announcements, in milliseconds.

    Examples
    --------
    >>> [minute for minute in range(200) if is_due(0, minute * 60_000 - 60_000, minute * 60_000, 60_000, 3_600_000)]
    [1, 3, 7, 15, 31, 63, 123, 183]
    """
    moment, interval = stored_ms + first_ms, first_ms
    while moment <= after_ms:
        interval = min(interval * 2, last_ms)
        if interval == last_ms:
            # From here on it is periodic: step over what lies before.
            moment += interval * max(1, (after_ms - moment) // interval)
        else:
            moment += interval
    return moment <= until_ms
