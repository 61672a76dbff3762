"""Children that can look for text: started with the first image that is to be checked, not before.

Each takes about 600 MB and some seconds to start. An anonymizer whose scanners are all trusted, or whose sources are silent,
has none.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.sandbox.parent import SandboxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from fetalmlops.anonymizer.child import CleanFile
    from fetalmlops.platform.sandbox.parent import Sandbox

__all__ = ["Readers"]


class Readers:
    """The children that can look for text. Close them on the event loop that uses them; an ``async with`` block does.

    Parameters
    ----------
    make
        Makes their sandbox; it is started here.
    workers
        How many it has.
    idle_s
        Seconds without a check after which they end, to be started anew by the next one.
    """

    def __init__(self, make: Callable[[], Sandbox[CleanFile]], workers: int = 1, *, idle_s: float = 900.0) -> None:
        self._make = make
        self._idle_s = idle_s
        self._places = asyncio.Semaphore(workers)
        self._starting: asyncio.Task[Sandbox[CleanFile]] | None = None
        self._in_use = 0
        self._ending: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lend(self, waiting: Callable[[], AbstractAsyncContextManager[None]]) -> AsyncIterator[Sandbox[CleanFile]]:
        """Lend children of which one is free.

        Parameters
        ----------
        waiting
            Around the wait for one, which is as long as the queue.

        Raises
        ------
        TransientError
            If the children cannot start (dependency ``text-detection``): nothing passes unchecked.
        """
        if self._ending:
            self._ending.cancel()
            self._ending = None
        self._in_use += 1
        try:
            async with AsyncExitStack() as place:
                async with waiting():
                    sandbox = await self._ready()
                    await place.enter_async_context(self._places)
                yield sandbox
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._ending = asyncio.get_running_loop().call_later(self._idle_s, self._end)

    async def close(self) -> None:
        """End all children."""
        if self._ending:
            self._ending.cancel()
        self._end()
        await asyncio.gather(*self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ready(self) -> Sandbox[CleanFile]:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        starting = self._starting
        try:
            # The deadline of one event must not end the start that all wait for.
            return await asyncio.shield(starting)
        except SandboxError as error:
            if self._starting is starting:
                self._starting = None
            msg = f"Expected the text detector to start, got an error: {error}; check the memory and the installation"
            raise TransientError(msg, dependency="text-detection", everyone=True) from None

    async def _start(self) -> Sandbox[CleanFile]:
        sandbox = self._make()
        await sandbox.start()
        return sandbox

    def _end(self) -> None:
        starting, self._starting, self._ending = self._starting, None, None
        if starting is not None:
            task = asyncio.get_running_loop().create_task(_end_started(starting))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _end_started(starting: asyncio.Task[Sandbox[CleanFile]]) -> None:
    try:
        sandbox = await starting
    except SandboxError:
        return
    await sandbox.close()
