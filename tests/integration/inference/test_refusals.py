"""Calls against the contract, or for what is not served: each is told why, however far the caller has got."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.platform.inference.channels import REASON_KEY
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc
from support.inference import raw_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.mark.parametrize(
    ("chunks", "numbers", "reason"),
    [
        ([], [], "no-frames"),
        ([np.zeros((2, 100, 100), np.uint8)], [2, 1], "frame-numbers"),
        ([np.zeros((1, 100, 100), np.uint8), np.zeros((1, 100, 101), np.uint8)], [1, 2], "frame-size"),
        ([np.zeros((1, 600, 100), np.uint8)], [1], "frame-size"),
        ([np.zeros((2, 100, 100), np.uint8)], [1], "pixels"),
        ([np.zeros((65, 20, 20), np.uint8)], [*range(1, 66)], "frame-count"),
    ],
)
async def test_frames_against_the_contract_are_permanent_errors(
    serving: Callable, chunks: list[np.ndarray], numbers: list[int], reason: str
) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        with pytest.raises(PermanentError) as caught:
            await client.classify(chunks, numbers)
    assert caught.value.reason == reason


@pytest.mark.parametrize("count", [0, 2])
async def test_another_number_of_frames_in_one_message_is_refused(serving: Callable, count: int) -> None:
    frame = pb.FrameChunk(rows=16, columns=16, frame_numbers=range(1, count + 1), pixels=bytes(256 * count))
    async with serving() as (_, target), grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.InferenceServiceStub(channel).ClassifyFrame(pb.ClassifyFrameRequest(frame=frame), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())[REASON_KEY] == "frame-count"
    assert f"Expected one frame, got {count}" in caught.value.details()


async def test_messages_in_the_wrong_order_are_refused(serving: Callable) -> None:
    options = pb.ClassifyRequest(options=pb.ClassifyOptions())
    async with serving() as (_, target):
        for requests in ([], [pb.ClassifyRequest(frames=pb.FrameChunk())], [options, options], [pb.ClassifyRequest()]):
            status, trailers = await raw_status(target, *requests)
            assert (status, trailers[REASON_KEY]) == (grpc.StatusCode.INVALID_ARGUMENT, "message-order")


async def test_another_bundle_or_other_labels_are_a_failed_precondition(serving: Callable, frames: np.ndarray) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        for options, reason in [
            (pb.ClassifyOptions(bundle_digest="0" * 64), "bundle-digest"),
            (pb.ClassifyOptions(plane_labels=["brain", "femur"]), "labels"),
        ]:
            status, trailers = await raw_status(target, pb.ClassifyRequest(options=options))
            assert (status, trailers[REASON_KEY]) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1], bundle_digest="0" * 64)
    assert not caught.value.everyone


async def test_without_a_model_it_is_unavailable_for_everyone(serving: Callable, frames: np.ndarray) -> None:
    async with serving(served=None) as (_, target), InferenceClient(target) as client:
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1])
        assert caught.value.everyone
        with pytest.raises(TransientError):
            await client.metadata()


async def test_an_error_of_the_callers_own_frames_stays_the_callers(serving: Callable, frames: np.ndarray) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield frames[:1]
        raise OSError

    async with serving() as (_, target), InferenceClient(target) as client:
        with pytest.raises(OSError):  # noqa: PT011 - the caller's own error, unchanged
            await client.classify(broken(), [1, 2])
        await client.classify([frames[:1]], [1])


async def test_a_refusal_while_frames_are_being_sent_keeps_its_reason(serving: Callable) -> None:
    frames = np.zeros((16, 512, 512), np.uint8)
    async with serving() as (_, target), InferenceClient(target, timeout_s=60) as client:

        async def ask() -> object:
            return await client.classify([frames] * 4, [*range(1, 65)], pipeline_digest="0" * 64)

        found = await asyncio.gather(*(ask() for _ in range(16)), return_exceptions=True)
    assert [error.reason for error in found if isinstance(error, PermanentError)] == ["pipeline"] * len(found)
