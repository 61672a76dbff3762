"""Load for the inference service: calls made beforehand, over a connection to each process, so that sending costs little."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import cv2
import grpc
import numpy as np

from fetalmlops.platform.inference.channels import PROCESS_KEY, Place
from fetalmlops.platform.inference.sending import FROM_CORE
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb

SIDE = 224
_SERVICE = "/fetalmlops.rpc.inference.v1.InferenceService"
_CHUNK = 16
BROKEN_OFF = "refused while it was sent"


@dataclass(frozen=True)
class Outcomes:
    """What became of calls.

    Parameters
    ----------
    seconds
        How long calls were sent.
    statuses
        gRPC status to number of calls.
    latencies
        Seconds of each call that was answered OK.
    """

    seconds: float
    statuses: Counter[str]
    latencies: Sequence[float]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.statuses["OK"] / self.seconds

    def latency(self, percent: float) -> float:
        """Return a percentile of the latencies of answered calls, in seconds."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")


def smooth_frames(count: int, side: int = SIDE) -> np.ndarray:
    """Return grey frames of smooth noise, [count, side, side]."""
    noise = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in noise])


def call_messages(frames: np.ndarray) -> list[bytes]:
    """Return the messages of one call, as they go over the wire: one alone, of ClassifyFrame, for one frame."""
    found = [pb.ClassifyRequest(options=pb.ClassifyOptions()).SerializeToString()]
    for start in range(0, len(frames), _CHUNK):
        part = frames[start : start + _CHUNK]
        pixels = part.tobytes()
        chunk = pb.FrameChunk(
            rows=part.shape[1],
            columns=part.shape[2],
            frame_numbers=range(start + 1, start + 1 + len(part)),
            pixels=pixels,
            sha256=hashlib.sha256(pixels).digest(),
        )
        if len(frames) == 1:
            return [pb.ClassifyFrameRequest(options=pb.ClassifyOptions(), frame=chunk).SerializeToString()]
        found.append(pb.ClassifyRequest(frames=chunk).SerializeToString())
    return found


@asynccontextmanager
async def channels(target: str, tries: int = 60) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Open a channel to every process of a service."""
    found: dict[int, grpc.aio.Channel] = {}
    try:
        for _ in range(tries):
            channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            call = channel.unary_unary(f"{_SERVICE}/GetModelMetadata")(b"", timeout=10)
            await call
            place = Place.parse(str(dict(await call.trailing_metadata())[PROCESS_KEY]))
            if place.number in found:
                await channel.close()
            found.setdefault(place.number, channel)
            if len(found) == place.count:
                break
        yield list(found.values())
    finally:
        await asyncio.gather(*(channel.close() for channel in found.values()))


async def closed_loop(target: str, messages: Sequence[bytes], *, callers: int, seconds: float) -> Outcomes:
    """Send the next call of each caller when its last one is answered."""
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    async with channels(target) as opened:
        began = time.perf_counter()

        async def call_on(channel: grpc.aio.Channel) -> None:
            while time.perf_counter() - began < seconds:
                await _call(channel, messages, 30.0, statuses, latencies)

        await asyncio.gather(*(call_on(opened[number % len(opened)]) for number in range(callers)))
        return Outcomes(time.perf_counter() - began, statuses, latencies)


async def open_loop(
    target: str, messages: Sequence[bytes], *, per_second: float, seconds: float, timeout_s: float
) -> Outcomes:
    """Send calls at an even rate, whatever becomes of them, each over the next channel."""
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    async with channels(target) as opened, asyncio.TaskGroup() as group:
        began = time.perf_counter()
        sent = 0
        while (elapsed := time.perf_counter() - began) < seconds:
            while sent < elapsed * per_second:
                channel = opened[sent % len(opened)]
                group.create_task(_call(channel, messages, timeout_s, statuses, latencies))
                sent += 1
            await asyncio.sleep(0.002)
    return Outcomes(seconds, statuses, latencies)


async def _call(
    channel: grpc.aio.Channel,
    messages: Sequence[bytes],
    timeout_s: float,
    statuses: Counter[str],
    latencies: list[float],
) -> None:
    started = time.perf_counter()
    try:
        if len(messages) == 1:
            await channel.unary_unary(f"{_SERVICE}/ClassifyFrame")(messages[0], timeout=timeout_s)
        else:
            await channel.stream_unary(f"{_SERVICE}/Classify")(iter(messages), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        # A call that was refused while its messages were being written: gRPC's client loses the status that it was told.
        statuses[BROKEN_OFF if error.details() == FROM_CORE else error.code().name] += 1
    else:
        statuses["OK"] += 1
        latencies.append(time.perf_counter() - started)
