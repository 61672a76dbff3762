"""The promotions as they stand recorded: which bundle has a role, and which one had it before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.contracts.events import ModelPromoted
    from fetalmlops.domain.contracts.planes import Role

__all__ = ["History", "Promoted"]


@dataclass(frozen=True)
class Promoted:
    """One promotion: when it was made, in milliseconds since the epoch, where it is recorded, and what it says."""

    time_ms: int
    place: str
    event: ModelPromoted


class History:
    """All promotions, whatever their roles.

    Parameters
    ----------
    promotions
        In any order.

    Examples
    --------
    >>> History([]).last_ms
    -1
    """

    def __init__(self, promotions: Iterable[Promoted]) -> None:
        self.promotions = sorted(promotions, key=lambda each: (each.time_ms, each.place))

    @property
    def last_ms(self) -> int:
        """When the last promotion was made; -1 without one."""
        return self.promotions[-1].time_ms if self.promotions else -1

    def current(self, role: Role) -> Promoted | None:
        """Return the promotion by which a bundle has a role; None where no bundle has it."""
        last = next((each for each in reversed(self.promotions) if each.event.role is role), None)
        return None if last is None or last.event.retired else last

    def before(self, role: Role) -> Promoted | None:
        """Return the promotion that a rollback goes back to; None where there is none.

        Each rollback undoes one promotion: the next one goes further back, and not forward again to what was undone.
        """
        standing = self._standing(role)
        return standing[-2] if len(standing) > 1 else None

    def _standing(self, role: Role) -> list[Promoted]:
        """Return what no rollback has undone, the current one last; one that changed nothing is left out."""
        standing: list[Promoted] = []
        for each in self.promotions:
            event = each.event
            if event.role is not role:
                continue
            if event.retired:
                standing.clear()
            elif event.rollback and (places := [*_places(standing, event.bundle_digest)]):
                del standing[places[-1] + 1 :]
            elif not standing or standing[-1].event.bundle_digest != event.bundle_digest:
                standing.append(each)
        return standing


def _places(standing: list[Promoted], digest: str) -> Iterable[int]:
    return (place for place, each in enumerate(standing) if each.event.bundle_digest == digest)
