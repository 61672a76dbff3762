"""The current results: what remains of a stream of results once repetitions and superseded ones are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.contracts.events import InstanceClassified
    from fetalmlops.domain.contracts.planes import Role

__all__ = ["CurrentResults"]


class CurrentResults:
    """Folds results, in any order, into the current ones.

    A result with a known ``ce_id`` is a repetition: the first one wins. A result named by ``supersedes`` is no longer
    current. Of several contents of the same SOP instance the one with the highest ``revision`` is current.

    Examples
    --------
    >>> len(CurrentResults())
    0
    """

    def __init__(self) -> None:
        self._results: dict[str, InstanceClassified] = {}
        self._superseded: set[str] = set()

    def add(self, event_id: str, result: InstanceClassified) -> bool:
        """Take a result in; return whether it was new."""
        if event_id in self._results:
            return False
        self._results[event_id] = result
        if result.supersedes:
            self._superseded.add(result.supersedes)
        return True

    def contents(self) -> dict[tuple[str, Role], list[str]]:
        """Return the ``ce_id`` of the results that stand, by content id and role: more than one would be a doubled result."""
        standing: dict[tuple[str, Role], list[str]] = {}
        for event_id, result in self._results.items():
            if event_id not in self._superseded:
                standing.setdefault((result.content_id, result.role), []).append(event_id)
        return standing

    def __iter__(self) -> Iterator[InstanceClassified]:
        """Yield the current result of each SOP instance and role, in order of arrival."""
        current: dict[tuple[str, Role], InstanceClassified] = {}
        for event_id, result in self._results.items():
            key = (result.context.instance, result.role)
            if event_id not in self._superseded and (key not in current or current[key].revision < result.revision):
                current[key] = result
        return iter(current.values())

    def __len__(self) -> int:
        """Return how many results are current."""
        return sum(1 for _ in self)
