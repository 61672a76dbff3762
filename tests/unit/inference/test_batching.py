from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.models.engine import EngineOutput
from fetalmlops.inference.batching import Batcher, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable


class CountingEngine:
    """Answers each frame with its first pixel, notes its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.began = threading.Event()

    def infer(self, frames: np.ndarray) -> EngineOutput:
        self.batches.append(len(frames))
        self.began.set()
        assert self.free.wait(10)
        if (frames < 0).any():
            msg = "a negative frame"
            raise RuntimeError(msg)
        values = frames[:, :1, 0].astype(np.float32)
        return EngineOutput(values, values, values, values, values[:, :, None, None])


def frames(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None, None] * np.ones((2, 2), np.float32)


def batcher(engine: CountingEngine, *, wait_s: float = 0.0, max_batch: int = 4, queue_frames: int = 8) -> Batcher:
    return Batcher(engine.infer, max_batch=max_batch, wait_s=wait_s, queue_frames=queue_frames)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def test_every_call_gets_the_answers_to_its_own_frames() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine, queue_frames=1000)
        calls = [frames(*range(10 * call, 10 * call + 1 + call % 6)) for call in range(40)]
        answers = await asyncio.gather(*(queue.infer(call) for call in calls))
        for call, answer in zip(calls, answers, strict=True):
            np.testing.assert_array_equal(answer.logits[:, 0], call[:, 0, 0])
        assert max(engine.batches) <= 4
        await queue.close()

    asyncio.run(scenario())


def test_frames_that_arrive_while_the_engine_runs_share_its_next_run() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine)
        engine.free.clear()
        first = asyncio.create_task(queue.infer(frames(0)))
        await until(engine.began.is_set)
        rest = [asyncio.create_task(queue.infer(frames(value))) for value in (1, 2, 3)]
        await until(lambda: queue.frames_waiting == 3)
        engine.free.set()
        await asyncio.gather(first, *rest)
        assert engine.batches == [1, 3]
        await queue.close()

    asyncio.run(scenario())


def test_a_free_engine_waits_only_as_long_as_it_is_told_to() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine, wait_s=0.2)
        loop = asyncio.get_running_loop()
        started = loop.time()
        first = asyncio.create_task(queue.infer(frames(0)))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, queue.infer(frames(1)))
        assert 0.15 < loop.time() - started < 2
        assert engine.batches == [2]
        started = loop.time()
        await queue.infer(frames(1, 2, 3, 4))
        assert loop.time() - started < 0.15
        await queue.close()

    asyncio.run(scenario())


def test_work_whose_caller_has_gone_never_reaches_the_engine() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine)
        engine.free.clear()
        first = asyncio.create_task(queue.infer(frames(0)))
        await until(engine.began.is_set)
        gone = asyncio.create_task(queue.infer(frames(1, 1)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await queue.infer(frames(2))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        stays = asyncio.create_task(queue.infer(frames(3)))
        await asyncio.sleep(0)
        engine.free.set()
        await asyncio.gather(first, stays)
        assert engine.batches == [1, 1]
        await queue.close()

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine)
        await queue.infer(frames(0))
        engine.began.clear()
        engine.free.clear()
        running = asyncio.create_task(queue.infer(frames(0)))
        await until(engine.began.is_set)
        queue.require_room(9)
        waiting = [asyncio.create_task(queue.infer(frames(*range(4)))) for _ in range(2)]
        await until(lambda: queue.frames_waiting == 8)
        hints = set()
        for _ in range(20):
            with pytest.raises(OverloadedError) as caught:
                queue.require_room(1)
            hints.add(caught.value.retry_after_s)
        assert 0.5 * queue.backlog_s <= min(hints) < max(hints) <= 1.5 * queue.backlog_s
        further = asyncio.create_task(queue.room())
        await asyncio.sleep(0)
        assert not further.done()
        engine.free.set()
        await asyncio.gather(running, *waiting, further)
        queue.require_room(9)
        await queue.close()

    asyncio.run(scenario())


def test_work_that_cannot_be_done_in_time_is_refused_or_dropped() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = Batcher(engine.infer, max_batch=4, wait_s=0, queue_frames=100, seconds_per_frame=10.0)
        now = asyncio.get_running_loop().time()
        queue.require_room(50, now)  # nothing waits: who knows
        engine.free.clear()
        running = asyncio.create_task(queue.infer(frames(0)))
        await until(engine.began.is_set)
        waits = asyncio.create_task(queue.infer(frames(1)))
        hopeless = asyncio.create_task(queue.infer(frames(2), now + 3))
        await until(lambda: queue.frames_waiting == 2)
        queue.require_room(1, now + 60)
        with pytest.raises(OverloadedError):
            queue.require_room(1, now + 39)
        engine.free.set()
        await asyncio.gather(running, waits)
        with pytest.raises(TimeoutError):
            await hopeless
        assert engine.batches == [1, 1]
        await queue.close()

    asyncio.run(scenario())


def test_the_estimate_follows_what_runs_take() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = Batcher(engine.infer, max_batch=1, wait_s=0, queue_frames=100, seconds_per_frame=5.0)
        await asyncio.gather(*(queue.infer(frames(0)) for _ in range(40)))
        engine.free.clear()
        held = asyncio.create_task(queue.infer(frames(0)))
        await until(lambda: queue.backlog_s > 0)
        assert queue.backlog_s < 0.5
        engine.free.set()
        await held
        await queue.close()

    asyncio.run(scenario())


def test_a_wrong_estimate_does_not_last() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = Batcher(engine.infer, max_batch=4, wait_s=0, queue_frames=100, seconds_per_frame=1000.0)
        answered = 0
        for _ in range(200):
            with contextlib.suppress(TimeoutError):
                await queue.infer(frames(0), asyncio.get_running_loop().time() + 60)
                answered += 1
        assert answered > 100
        await queue.close()

    asyncio.run(scenario())


def test_an_error_of_the_engine_ends_its_batch_and_no_other() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine)
        with pytest.raises(RuntimeError, match="negative"):
            await queue.infer(frames(-1))
        assert (await queue.infer(frames(5))).logits.tolist() == [[5]]
        await queue.close()

    asyncio.run(scenario())


def test_closing_finishes_what_waits() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        queue = batcher(engine)
        engine.free.clear()
        calls = [asyncio.create_task(queue.infer(frames(value))) for value in range(6)]
        await until(engine.began.is_set)
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0.01)
        engine.free.set()
        await closing
        answers = await asyncio.gather(*calls)
        assert [answer.logits[0, 0] for answer in answers] == [0, 1, 2, 3, 4, 5]

    asyncio.run(scenario())


def test_a_queue_that_gives_way_runs_while_the_other_is_idle() -> None:
    async def scenario() -> None:
        first, second = CountingEngine(), CountingEngine()
        queue = batcher(first)
        waits = Batcher(second.infer, max_batch=4, wait_s=0.0, queue_frames=8, turn=queue.idle.wait)
        first.free.clear()
        ahead = [asyncio.create_task(queue.infer(frames(value))) for value in (0, 1)]
        await until(first.began.is_set)
        behind = asyncio.create_task(waits.infer(frames(7)))
        await asyncio.sleep(0.05)
        assert second.batches == []
        first.free.set()
        await asyncio.gather(*ahead)
        assert (await behind).logits[0, 0] == 7
        assert (sum(first.batches), second.batches) == (2, [1])
        await waits.close()
        await queue.close()

    asyncio.run(scenario())


def test_a_run_that_does_not_end_is_told_once_and_one_that_ends_is_not() -> None:
    async def scenario() -> None:
        engine, told = CountingEngine(), []
        queue = Batcher(
            engine.infer, max_batch=4, wait_s=0.0, queue_frames=8, hang_s=0.05, hung=lambda: told.append(len(told))
        )
        await queue.infer(frames(1))
        await asyncio.sleep(0.1)
        assert told == []
        engine.free.clear()
        hanging = asyncio.create_task(queue.infer(frames(2)))
        await until(lambda: bool(told))
        await asyncio.sleep(0.1)
        assert told == [0]
        engine.free.set()
        await hanging
        await queue.close()

    asyncio.run(scenario())
