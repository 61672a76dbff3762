"""How many events are in work at once, in which order they are acknowledged, and who works alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

__all__ = ["Gate", "OrderedAcks", "Window"]

T = TypeVar("T")

_LONGEST_SHARE = 4


class Window:
    """Bounds the events, and the bytes they cite, that are in work at once. One event always fits.

    An event counts at most a quarter of the bytes: what is longer is never held in memory whole, and a long cine must not
    keep all others waiting.

    Parameters
    ----------
    count
        Most events.
    size
        Most bytes.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._events = 0
        self._bytes = 0
        self._changed = asyncio.Condition()

    @property
    def events(self) -> int:
        """Events in work."""
        return self._events

    async def enter(self, size: int) -> None:
        """Wait for room, then take it."""
        size = self._counted(size)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(size))
            self._events += 1
            self._bytes += size

    async def leave(self, size: int) -> None:
        """Give room back."""
        size = self._counted(size)
        async with self._changed:
            self._events -= 1
            self._bytes -= size
            self._changed.notify_all()

    async def drained(self) -> None:
        """Wait until nothing is in work."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._events == 0)

    def _counted(self, size: int) -> int:
        return min(size, self._size // _LONGEST_SHARE)

    def _fits(self, size: int) -> bool:
        return self._events == 0 or (self._events < self._count and self._bytes + size <= self._size)


class OrderedAcks(Generic[T]):
    """Acknowledges in order of delivery what finishes in any order.

    Kafka commits one offset a partition: acknowledging a later event before an earlier one that is still in work would
    lose the earlier one at a crash.

    Parameters
    ----------
    acknowledge
        Called with each item, in order of delivery within its partition.
    """

    def __init__(self, acknowledge: Callable[[T], Awaitable[None]]) -> None:
        self._acknowledge = acknowledge
        self._pending: dict[Hashable, deque[list[object]]] = defaultdict(deque)

    def deliver(self, partition: Hashable, item: T) -> Callable[[], Awaitable[None]]:
        """Note a delivery; await what is returned once its work is done."""
        entry: list[object] = [item, False]
        queue = self._pending[partition]
        queue.append(entry)

        async def done() -> None:
            entry[1] = True
            while queue and queue[0][1]:
                await self._acknowledge(queue.popleft()[0])  # type: ignore[arg-type]

        return done


class Gate:
    """Lets many work together, or one alone.

    Who asks to work alone waits until the others are done; meanwhile nobody new begins.
    """

    def __init__(self) -> None:
        self._shared = 0
        self._alone = 0
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Work beside others."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._alone == 0)
            self._shared += 1
        try:
            yield
        finally:
            async with self._changed:
                self._shared -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work with nobody beside."""
        self._alone += 1
        try:
            async with self._turn:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._shared == 0)
                yield
        finally:
            async with self._changed:
                self._alone -= 1
                self._changed.notify_all()
