"""Engines that tests slow down, hold and break, and the status in which a call ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine, EngineOutput


class SlowEngine(OpenVinoEngine):
    """OpenVINO that takes its time, can be held, and can fail; the check and the warm-up at loading are quick."""

    def __init__(self, bundle: Bundle, seconds: float = 0.0) -> None:
        super().__init__(bundle)
        self.seconds = seconds
        self.fail = False
        self.batches: list[int] = []
        self.checked = False
        self.began = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def infer(self, batch: np.ndarray) -> EngineOutput:
        if self.checked and batch.any():  # the warm-up's frames are black
            self.batches.append(len(batch))
            self.began.set()
            time.sleep(self.seconds)
            assert self.free.wait(60), "the test did not let the engine go on"
            if self.fail:
                raise RuntimeError
        self.checked = True
        return super().infer(batch)


class HeldEngine:
    """A real engine that waits before each run until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.precision = engine.name, engine.precision
        self.free = threading.Event()
        self.free.set()
        self.began = threading.Event()

    def infer(self, batch: NDArray[np.float32]) -> EngineOutput:
        self.began.set()
        assert self.free.wait(30)
        return self._engine.infer(batch)


async def raw_status(target: str, *requests: pb.ClassifyRequest) -> tuple[grpc.StatusCode, dict[str, str]]:
    """Return how a Classify call of these messages fails, and its trailing metadata."""
    async with grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.InferenceServiceStub(channel).Classify(iter(requests), timeout=5)
    return caught.value.code(), dict(caught.value.trailing_metadata())
