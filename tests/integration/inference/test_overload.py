"""More than can be done, too late, too slow or for nobody: refused or dropped, and never at the cost of the others."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.inference.channels import PUSHBACK_KEY
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc
from support.inference import SlowEngine, raw_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.models.bundle import Bundle


async def test_overload_is_told_with_a_time_to_come_back(serving: Callable, bundle: Bundle, frames: np.ndarray) -> None:
    engine = SlowEngine(bundle, 0.01)
    options = {"build_engine": lambda _: engine, "queue_frames": 4, "max_batch": 2, "batch_wait_ms": 0}
    async with serving(**options) as (host, target), InferenceClient(target) as client:
        await client.classify([frames[:1]], [1])
        engine.free.clear()
        calls = [asyncio.create_task(client.classify([frames[:2]], [1, 2])) for _ in range(3)]
        async with asyncio.timeout(30):
            while host.current.batcher.frames_waiting < 4:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        pixels = frames[:1].tobytes()
        chunk = pb.FrameChunk(
            rows=frames.shape[1],
            columns=frames.shape[2],
            frame_numbers=[1],
            pixels=pixels,
            sha256=hashlib.sha256(pixels).digest(),
        )
        requests = [pb.ClassifyRequest(options=pb.ClassifyOptions()), pb.ClassifyRequest(frames=chunk)]
        status, trailers = await raw_status(target, *requests)
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < int(trailers[PUSHBACK_KEY]) < 5000
        with pytest.raises(TransientError) as caught:
            await client.classify(iter([frames[:1]]), [1])
        assert caught.value.everyone
        assert 0 < caught.value.retry_after_s < 5
        engine.free.set()
        await asyncio.gather(*calls)
        assert (await client.classify([frames[:1]], [1])).best_frame == 1


async def test_work_past_its_deadline_or_cancelled_never_reaches_the_engine(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle)
    engine.free.clear()
    options = {"build_engine": lambda _: engine, "batch_wait_ms": 0}
    async with serving(**options) as (host, target), InferenceClient(target) as client:
        first = asyncio.create_task(client.classify([frames[:1]], [1]))
        assert await asyncio.to_thread(engine.began.wait, 30)
        cancelled = asyncio.create_task(client.classify([frames[:3]], [1, 2, 3]))
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:2]], [1, 2], timeout=0.2)
        assert not caught.value.everyone
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        async with asyncio.timeout(30):
            while not all(each.answer.done() for each in host.current.batcher._waiting):  # noqa: ASYNC110 - a drop has no event
                await asyncio.sleep(0.01)
        engine.free.set()
        await first
        await client.classify([frames[:1]], [1])
    assert engine.batches == [1, 1]


async def test_calls_that_send_nothing_cannot_pile_up(serving: Callable, frames: np.ndarray) -> None:
    async with serving(queue_frames=16) as (_, target), grpc.aio.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        idle = [stub.Classify(timeout=20) for _ in range(16)]
        for call in idle:
            await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
        await asyncio.sleep(0.2)
        status, _ = await raw_status(target, pb.ClassifyRequest(options=pb.ClassifyOptions()))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in idle:
            call.cancel()
        async with InferenceClient(target) as client:
            assert (await client.classify([frames[:1]], [1])).best_frame == 1


async def test_a_caller_that_sends_slowly_is_let_go(serving: Callable, frames: np.ndarray) -> None:
    async with serving(message_timeout_s=0.3) as (host, target), grpc.aio.insecure_channel(target) as channel:
        call = pb_grpc.InferenceServiceStub(channel).Classify(timeout=60)
        await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert host.current._calls == 0
        async with InferenceClient(target) as client:
            assert (await client.classify([frames[:1]], [1])).best_frame == 1


async def test_calls_that_stall_delay_others_no_longer_than_a_message_may_take(
    serving: Callable, frames: np.ndarray
) -> None:
    async with serving(message_timeout_s=1.0) as (host, target), grpc.aio.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        stalled = [stub.Classify(timeout=60) for _ in range(20)]
        for call in stalled:
            await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
        async with InferenceClient(target, timeout_s=60) as client:
            assert (await client.classify([frames[:1]], [1])).best_frame == 1
        assert {await call.code() for call in stalled} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert host.current._calls == 0


async def test_what_a_caller_that_went_away_had_sent_is_dropped(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle)
    pixels = np.repeat(frames[:1], 16, axis=0).tobytes()
    chunk = pb.FrameChunk(rows=frames.shape[1], columns=frames.shape[2], frame_numbers=range(1, 17), pixels=pixels)
    chunk.sha256 = hashlib.sha256(pixels).digest()
    async with serving(build_engine=lambda _: engine) as (host, target):
        async with grpc.aio.insecure_channel(target) as channel:
            engine.free.clear()
            for _ in range(4):
                call = pb_grpc.InferenceServiceStub(channel).Classify(timeout=60)
                await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
                await call.write(pb.ClassifyRequest(frames=chunk))
            assert await asyncio.to_thread(engine.began.wait, 30)
            async with asyncio.timeout(30):
                while host.current.batcher.frames_waiting < 48:  # noqa: ASYNC110 - a count has no event
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while host.current._calls:  # noqa: ASYNC110 - the end of a call has no event
                await asyncio.sleep(0.01)
        engine.free.set()
        async with InferenceClient(target, timeout_s=60) as client:
            await client.classify([frames[:1]], [1])
    assert engine.batches == [16, 1]


async def test_work_that_would_be_too_late_is_refused_at_once(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle, 0.3)
    options = {"build_engine": lambda _: engine, "max_batch": 1, "batch_wait_ms": 0}
    async with serving(**options) as (host, target), InferenceClient(target, timeout_s=120) as client:
        await asyncio.gather(*(client.classify([frames[:1]], [1]) for _ in range(8)))
        ran = len(engine.batches)
        engine.free.clear()
        waiting = [asyncio.create_task(client.classify([frames[:1]], [1])) for _ in range(8)]
        async with asyncio.timeout(60):
            while host.current.batcher.frames_waiting < 7:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        with pytest.raises(TransientError) as caught:
            await client.classify(iter([frames[:1]]), [1], timeout=0.5)
        assert "RESOURCE_EXHAUSTED" in str(caught.value)
        engine.free.set()
        await asyncio.gather(*waiting)
        assert len(engine.batches) == ran + 8
