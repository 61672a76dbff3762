"""Children that can look for text: none before the first image that needs them, none after the last."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.anonymizer.readers import Readers
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.sandbox.parent import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Making:
    """Makes sandboxes of real children, and keeps them."""

    def __init__(self, *initializers: str | None) -> None:
        self.initializers = list(initializers)
        self.made: list[Sandbox[Any]] = []

    def __call__(self) -> Sandbox[Any]:
        initializer = self.initializers.pop(0) if self.initializers else None
        self.made.append(Sandbox("math:sqrt", float, initializer=initializer))  # type: ignore[arg-type]
        return self.made[-1]

    @property
    def alive(self) -> int:
        return sum(len(sandbox.process_ids) for sandbox in self.made)


async def call(readers: Readers, value: float) -> float:
    async with readers.lend(nullcontext) as sandbox:
        return await sandbox.call(value)  # type: ignore[return-value]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("Expected the condition to hold by now")


def test_the_first_calls_share_one_start() -> None:
    async def run() -> None:
        making = Making()
        async with Readers(making) as readers:
            assert making.made == []
            assert await asyncio.gather(*(call(readers, 4.0) for _ in range(5))) == [2.0] * 5
            assert (len(making.made), making.alive) == (1, 1)
        assert making.alive == 0

    asyncio.run(run())


def test_nothing_is_started_where_nothing_is_checked() -> None:
    async def run() -> None:
        making = Making()
        async with Readers(making):
            pass
        assert making.made == []

    asyncio.run(run())


def test_idle_children_end_and_come_back() -> None:
    async def run() -> None:
        making = Making()
        async with Readers(making, idle_s=0.01) as readers:
            assert await call(readers, 4.0) == 2.0
            await until(lambda: making.alive == 0)
            assert await call(readers, 9.0) == 3.0
            assert len(making.made) == 2

    asyncio.run(run())


def test_a_deadline_of_one_call_does_not_end_the_start_for_the_others() -> None:
    async def run() -> None:
        making = Making()
        async with Readers(making) as readers:
            impatient = asyncio.create_task(call(readers, 4.0))
            patient = asyncio.create_task(call(readers, 9.0))
            await until(lambda: len(making.made) == 1)
            impatient.cancel()
            assert await patient == 3.0
            assert len(making.made) == 1

    asyncio.run(run())


def test_children_that_cannot_start_are_waited_for_and_tried_again() -> None:
    async def run() -> None:
        making = Making("math:no_such_function")
        async with Readers(making) as readers:
            with pytest.raises(TransientError) as error:
                await call(readers, 4.0)
            assert (error.value.dependency, error.value.everyone) == ("text-detection", True)
            assert await call(readers, 4.0) == 2.0

    asyncio.run(run())


def test_the_wait_for_a_free_child_is_told_from_the_work() -> None:
    """Images that queue must not run into their deadlines for the work on those before them."""
    waiting: set[int] = set()

    def wait_of(number: int) -> Callable[[], Any]:
        @asynccontextmanager
        async def wait() -> AsyncIterator[None]:
            waiting.add(number)
            yield
            waiting.discard(number)

        return wait

    async def run() -> None:
        async with Readers(Making()) as readers, readers.lend(wait_of(0)):
            assert waiting == set()
            queue = readers.lend(wait_of(1))
            entering = asyncio.create_task(queue.__aenter__())
            await until(lambda: waiting == {1})
            entering.cancel()
        async with Readers(Making()) as readers:
            for number in range(3):
                async with readers.lend(wait_of(number)) as sandbox:
                    assert number not in waiting
                    assert await sandbox.call(4.0) == 2.0

    asyncio.run(run())
