"""What a stage is: a source topic, a handler, and what the handler gives back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from fetalmlops.domain.contracts.events import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fetalmlops.domain.contracts.envelope import Envelope, Headers
    from fetalmlops.domain.contracts.topics import Topic

__all__ = ["Delivery", "Emission", "Outcome", "Record", "Stage"]

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Record:
    """One record as the broker gave it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class Delivery(Generic[E]):
    """One event as a handler gets it; `limit` is the deadline of the attempt at it, None for none."""

    record: Record
    envelope: Envelope
    event: E
    limit: asyncio.Timeout | None = field(default=None, compare=False)

    @asynccontextmanager
    async def off_the_clock(self) -> AsyncIterator[None]:
        """Leave what is done within out of the deadline: waiting for a place that other events hold, each within its own."""
        when = self.limit.when() if self.limit else None
        if self.limit is None or when is None:
            yield
            return
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.limit.reschedule(None)
        try:
            yield
        finally:
            self.limit.reschedule(when + loop.time() - begun)


@dataclass(frozen=True, kw_only=True)
class Emission:
    """One event that a handler wants published.

    Parameters
    ----------
    topic
        Where to.
    key
        Record key.
    id
        ``ce_id``: equal outputs have equal ids.
    event
        Its value.
    subject
        ``ce_subject``, such as the instance's pseudonym.
    """

    topic: Topic
    key: str
    id: str
    event: Event
    subject: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an event.

    Parameters
    ----------
    emissions
        Events to publish; the source event is acknowledged only when they all are.
    ends
        Whether the instance's way ends here: its done marker is written.
    acknowledged
        Called once the emissions are acknowledged, before the source event is.
    verdict
        Word for the metrics, such as ``handled`` or ``repeated``.
    """

    emissions: tuple[Emission, ...] = ()
    ends: bool = False
    acknowledged: Callable[[], Awaitable[None]] | None = None
    verdict: str = "handled"


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[E]):
    """One stage of the flow.

    Parameters
    ----------
    name
        Its name; also its consumer group.
    source
        The topic it reads.
    event
        Type of the events on it.
    handle
        Does the work on one event. It raises `PermanentError`, `TransientError`, `DeadlyError` or `ObjectMissingError`;
        anything else counts as permanent. It is cancelled at its deadline, and must leave the event loop free.
    size
        Bytes of the objects an event cites: they count against the window and lengthen the deadline.
    looks_on
        Whether the way of an instance does not depend on it: what it refuses is counted and logged, not quarantined, and its
        done marker is left to others.
    """

    name: str
    source: Topic
    event: type[E]
    handle: Callable[[Delivery[E]], Awaitable[Outcome]]
    size: Callable[[E], int] = lambda _event: 0
    looks_on: bool = False
