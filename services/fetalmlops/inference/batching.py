"""Micro-batching: frames of different calls share one run of the engine.

While the engine runs, frames gather; when it is free, it takes them. Waiting longer than that pays only where the engine
is faster per frame on a full batch, so the wait is a setting and ends as soon as a batch is full.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fetalmlops.domain.models.engine import join_outputs
from fetalmlops.inference.costs import Spent, timed
from fetalmlops.inference.metrics import BATCH_FRAMES, ENGINE_SECONDS, FRAMES_WAITING, QUEUE_SECONDS
from fetalmlops.platform.energy.recording import process_meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput

__all__ = ["Batcher", "OverloadedError"]

# A few runs decide, so that the estimate follows a machine that others use too.
_NEWEST_SHARE: Final = 0.2
# Other work on the machine makes the estimate too low: a wait that just fits would often end too late.
_MARGIN: Final = 1.25
# A run corrects the estimate. Where a wrong one lets nothing run any more, as after a machine slept, doubt has to.
_DOUBT: Final = 0.9
# What is refused at one moment comes back over as long a time as what waits now takes.
_EARLIEST, _LATEST = 0.5, 1.5


class OverloadedError(Exception):
    """More frames are waiting than may wait, or than would be done before the deadline.

    Parameters
    ----------
    retry_after_s
        Time after which to try again: on average when the frames that wait now should be done.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Expected room in the queue, got none; try again in {retry_after_s:.3f} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, eq=False)
class _Waiting:
    frames: NDArray[np.float32]
    answer: asyncio.Future[EngineOutput]
    spent: Spent
    since: float
    deadline: float


def _closed(_frames: NDArray[np.float32]) -> tuple[EngineOutput, float, float]:
    msg = "Expected a queue that is open, got a closed one; ask the model that serves now"
    raise RuntimeError(msg)


class Batcher:
    """Runs an engine in a thread of its own on frames of all calls, first come, first served.

    Work whose caller has gone (its deadline passed, or it cancelled), or that could not be done before its deadline any
    more, is dropped before it costs anything. Use it within the event loop that it was made in, and `close` it.

    Parameters
    ----------
    infer
        Runs the network on prepared frames, [frames, rows, columns].
    max_batch
        Most frames in one run.
    wait_s
        Longest time that a frame waits for others although the engine is free.
    queue_frames
        Frames that wait, above which nothing new is taken.
    seconds_per_frame
        First estimate of the time that a frame takes, such as the warm-up found; corrected by every run.
    clock
        Processor time of a run, in seconds: the thread's, or the process's for an engine with threads of its own.
    role
        Role of the model, for the metrics.
    turn
        Waits until a run may begin; default: at once.
    hang_s, hung
        Seconds after which a run that has not ended will not end any more, and what is called then.
    """

    def __init__(
        self,
        infer: Callable[[NDArray[np.float32]], EngineOutput],
        *,
        max_batch: int,
        wait_s: float,
        queue_frames: int,
        seconds_per_frame: float = 0.0,
        clock: Callable[[], float] = time.thread_time,
        role: str = "champion",
        turn: Callable[[], Awaitable[None]] | None = None,
        hang_s: float = 60.0,
        hung: Callable[[], None] = lambda: None,
    ) -> None:
        self._infer = timed(infer, clock)
        self._role = role
        self._max_batch = max_batch
        self._wait_s = wait_s
        self._queue_frames = queue_frames
        self._turn = turn
        self._hang_s = hang_s
        self._hung = hung
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting: deque[_Waiting] = deque()
        self._frames_waiting = 0
        self._frames_running = 0
        self._seconds_per_frame = seconds_per_frame
        self._finished = -math.inf
        self._changed = asyncio.Event()
        self._below = asyncio.Event()
        self._below.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task = asyncio.create_task(self._work())

    @property
    def frames_waiting(self) -> int:
        """Frames that wait for the engine."""
        return self._frames_waiting

    @property
    def backlog_s(self) -> float:
        """Time that the frames in work and the waiting ones will take, judged by the last runs, in seconds."""
        return (self._frames_running + self._frames_waiting) * self._seconds_per_frame

    @property
    def idle(self) -> asyncio.Event:
        """Set while no frame waits or runs."""
        return self._idle

    def refusal(self) -> OverloadedError:
        """Return the error that refuses work now, with a time to come back that is not everybody's."""
        return OverloadedError(self.backlog_s * random.uniform(_EARLIEST, _LATEST))

    def require_room(self, frames: int, deadline: float = math.inf) -> None:
        """Check that frames may join those that wait.

        Parameters
        ----------
        frames
            How many.
        deadline
            Time of the event loop at which their answer is worth nothing any more.

        Raises
        ------
        OverloadedError
            If too many are waiting, or these would not be done in time.
        """
        if not self._frames_waiting:
            return
        full = self._frames_waiting + frames > self._queue_frames
        needed_s = _MARGIN * (self.backlog_s + frames * self._seconds_per_frame)
        if full or asyncio.get_running_loop().time() + needed_s > deadline:
            raise self.refusal()

    async def room(self) -> None:
        """Wait until fewer frames are waiting than may: for further frames of a call of which some are answered already."""
        await self._below.wait()

    async def infer(
        self, frames: NDArray[np.float32], deadline: float = math.inf, spent: Spent | None = None
    ) -> EngineOutput:
        """Return the network's outputs on prepared frames, [frames, rows, columns]; what they cost is added to `spent`.

        Raises
        ------
        TimeoutError
            If they would not be done by `deadline`, a time of the event loop.
        """
        loop, spent = asyncio.get_running_loop(), spent or Spent()
        parts = [
            _Waiting(frames[start : start + self._max_batch], loop.create_future(), spent, loop.time(), deadline)
            for start in range(0, len(frames), self._max_batch)
        ]
        self._waiting.extend(parts)
        self._count(len(frames))
        self._idle.clear()
        self._changed.set()
        if len(parts) == 1:
            return await parts[0].answer
        return join_outputs(await asyncio.gather(*(part.answer for part in parts)))

    async def close(self) -> None:
        """Finish what waits, then free the thread."""
        while self._waiting:
            await asyncio.gather(*(each.answer for each in self._waiting), return_exceptions=True)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)
        # The ended task and this queue know each other, so that only the garbage collector frees them, some time. The engine,
        # with its memory and its threads, must not wait for that.
        self._infer = _closed

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            if self._wait_s and self._frames_waiting < self._max_batch:
                await self._gather_more()
            if self._turn:
                await self._turn()
            batch = self._take()
            if batch:
                await self._run(batch)
            if not self._waiting:
                self._changed.clear()
                self._idle.set()

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
        now = asyncio.get_running_loop().time()
        while self._waiting and frames + len(self._waiting[0].frames) <= self._max_batch:
            each = self._waiting.popleft()
            self._count(-len(each.frames))
            if each.answer.done():
                continue
            if now + len(each.frames) * self._seconds_per_frame > each.deadline:
                each.answer.set_exception(TimeoutError())
                self._seconds_per_frame *= _DOUBT
                continue
            frames += len(each.frames)
            batch.append(each)
        return batch

    def _count(self, frames: int) -> None:
        self._frames_waiting += frames
        # Several queues exist at once: a shadow's, and that of a model that finishes after a swap.
        FRAMES_WAITING.inc(frames)
        if self._frames_waiting < self._queue_frames:
            self._below.set()
        else:
            self._below.clear()

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        frames = np.concatenate([each.frames for each in batch]) if len(batch) > 1 else batch[0].frames
        started = loop.time()
        BATCH_FRAMES.observe(len(frames))
        self._frames_running = len(frames)
        hanging = loop.call_later(self._hang_s, self._hung)
        try:
            output, cpu_s, run_s = await loop.run_in_executor(self._thread, self._infer, frames)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises belongs to the calls of this batch
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        finally:
            hanging.cancel()
            self._frames_running = 0
        self._learn(len(frames), started, loop.time())
        ENGINE_SECONDS.observe(run_s)
        process_meter().count(run_s=run_s)
        start = 0
        for each in batch:
            waited_s = started - each.since
            QUEUE_SECONDS.labels(self._role).observe(waited_s)
            each.spent.add_run(len(each.frames), len(frames), waited_s=waited_s, run_s=run_s, cpu_s=cpu_s)
            stop = start + len(each.frames)
            if not each.answer.done():
                each.answer.set_result(output.part(start, stop))
            start = stop

    def _learn(self, frames: int, started: float, now: float) -> None:
        """Correct the estimate by a run; where it followed the one before at once, what lay between counts too."""
        followed = bool(self._waiting) and started - self._finished < now - started
        measured = (now - (self._finished if followed else started)) / frames
        known = self._seconds_per_frame
        self._seconds_per_frame = measured if not known else known + _NEWEST_SHARE * (measured - known)
        self._finished = now
