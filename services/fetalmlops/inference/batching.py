"""Micro-batching: frames of different calls share one run of the engine.

While the engine runs, frames gather; when it is free, it takes them. Waiting longer than that pays only where the engine
is faster per frame on a full batch, so the wait is a setting and ends as soon as a batch is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.models.engine import join_outputs
from fetalmlops.inference.metrics import BATCH_FRAMES, FRAMES_WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput

__all__ = ["Batcher", "OverloadedError"]


class OverloadedError(Exception):
    """More frames are waiting than may wait.

    Parameters
    ----------
    retry_after_s
        Time after which the frames that wait now should be done.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Expected room in the queue, got none; try again in {retry_after_s:.3f} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, eq=False)
class _Waiting:
    frames: NDArray[np.float32]
    answer: asyncio.Future[EngineOutput]


class Batcher:
    """Runs an engine in a thread of its own on frames of all calls, first come, first served.

    Work whose caller has gone (its deadline passed, or it cancelled) is dropped before it costs anything. Use it within
    the event loop that it was made in, and `close` it.

    Parameters
    ----------
    infer
        Runs the network on prepared frames, [frames, rows, columns].
    max_batch
        Most frames in one run.
    wait_s
        Longest time that a frame waits for others although the engine is free.
    queue_frames
        Most frames that wait.
    """

    def __init__(
        self,
        infer: Callable[[NDArray[np.float32]], EngineOutput],
        *,
        max_batch: int,
        wait_s: float,
        queue_frames: int,
    ) -> None:
        self._infer = infer
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._queue_frames = queue_frames
        self._waiting: deque[_Waiting] = deque()
        self._frames_waiting = 0
        self._seconds_per_frame = 0.0
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task = asyncio.create_task(self._work())

    @property
    def frames_waiting(self) -> int:
        """Frames that wait for the engine."""
        return self._frames_waiting

    @property
    def backlog_s(self) -> float:
        """Time that the waiting frames will take, judged by the last run, in seconds."""
        return self._frames_waiting * self._seconds_per_frame

    async def infer(self, frames: NDArray[np.float32]) -> EngineOutput:
        """Return the network's outputs on prepared frames, [frames, rows, columns].

        Raises
        ------
        OverloadedError
            If too many frames are waiting; none of these was queued.
        """
        if self._frames_waiting + len(frames) > self._queue_frames and self._waiting:
            raise OverloadedError(self.backlog_s)
        loop = asyncio.get_running_loop()
        parts = [
            _Waiting(frames[start : start + self._max_batch], loop.create_future())
            for start in range(0, len(frames), self._max_batch)
        ]
        self._waiting.extend(parts)
        self._count(len(frames))
        self._changed.set()
        return join_outputs(await asyncio.gather(*(part.answer for part in parts)))

    async def close(self) -> None:
        """Finish what waits, then free the thread."""
        while self._waiting:
            await asyncio.gather(*(each.answer for each in self._waiting), return_exceptions=True)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            if self._wait_s and self._frames_waiting < self._max_batch:
                await self._gather_more()
            batch = self._take()
            if batch:
                await self._run(batch)
            if not self._waiting:
                self._changed.clear()

    async def _gather_more(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait_s
        while self._frames_waiting < self._max_batch and (left := end - loop.time()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        frames = 0
        while self._waiting and frames + len(self._waiting[0].frames) <= self._max_batch:
            each = self._waiting.popleft()
            self._count(-len(each.frames))
            if not each.answer.done():
                frames += len(each.frames)
                batch.append(each)
        return batch

    def _count(self, frames: int) -> None:
        self._frames_waiting += frames
        FRAMES_WAITING.set(self._frames_waiting)

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        frames = np.concatenate([each.frames for each in batch]) if len(batch) > 1 else batch[0].frames
        started = loop.time()
        BATCH_FRAMES.observe(len(frames))
        try:
            output = await loop.run_in_executor(self._thread, self._infer, frames)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises belongs to the calls of this batch
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        self._seconds_per_frame = (loop.time() - started) / len(frames)
        start = 0
        for each in batch:
            stop = start + len(each.frames)
            if not each.answer.done():
                each.answer.set_result(output.part(start, stop))
            start = stop
