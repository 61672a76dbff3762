"""The two calls of `InferenceService`, and the status in which each ends."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.models.classify import classify
from fetalmlops.domain.models.engine import join_outputs
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.inference.costs import Spent, timed
from fetalmlops.inference.metrics import CALL_JOULES, CALL_SECONDS, CALLS, FRAMES, PREPARATION_SECONDS
from fetalmlops.inference.requests import MAX_SIDE, FrameReader, require_one_frame, verify_frames
from fetalmlops.inference.responses import classify_response, metadata_response
from fetalmlops.inference.statuses import NoModelError, PreconditionError, Status, abort, status_of
from fetalmlops.platform.energy.recording import process_meter
from fetalmlops.platform.inference.channels import (
    ALONE,
    PIPELINE_REASON,
    PROCESS_KEY,
    ROLE_REASON,
)
from fetalmlops.platform.telemetry import span
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.domain.models.prepare import Prepared
    from fetalmlops.inference.hosting import ModelHost, ServedModel
    from fetalmlops.platform.inference.channels import Place

__all__ = ["LONGEST_CALL_S", "InferenceServicer"]

LONGEST_CALL_S: Final = 60.0
"""A call without a deadline, or with a longer one, ends after this time."""

MESSAGE_TIMEOUT_S: Final = 5.0
"""Time that a caller has for its next message, unless the settings tell another."""

# A message of frames is whole in memory, up to 8 MiB, before it can be looked at: so many are read or prepared at once.
_READING_CALLS: Final = 16
# Two frames of the largest size: their preparation takes less than handing them to another thread.
_FEW_PIXELS: Final = 2 * MAX_SIDE * MAX_SIDE
_ROLES: Final = (Role.CHAMPION, Role.SHADOW)


class _Call:
    """One Classify call in work; its answer is worth nothing after `deadline`, a time of the event loop."""

    def __init__(self, model: ServedModel, deadline: float) -> None:
        self.model = model
        self.deadline = deadline
        self.reader = FrameReader()
        self.contrast: list[NDArray[np.float64]] = []
        self.sharpness: list[NDArray[np.float64]] = []
        self.faults: list[tuple[str, ...]] = []
        self.outputs: list[EngineOutput] = []
        self.inference_s = 0.0
        self.spent = Spent()

    @property
    def begun(self) -> bool:
        """Whether frames were taken: then the others are, too."""
        return bool(self.reader.frame_numbers)

    async def prepare(self, chunk: pb.FrameChunk) -> Prepared:
        """Check and prepare a message's frames, if there is room for them; pixels are not kept."""
        begun = self.begun
        frames = self.reader.read(chunk)
        if not begun:
            self.model.batcher.require_room(len(frames), self.deadline)
        started = time.perf_counter()
        few, prepare_timed = frames.size <= _FEW_PIXELS, timed(self._prepare)
        prepared, cpu_s, _ = (
            prepare_timed(frames, chunk.sha256) if few else await asyncio.to_thread(prepare_timed, frames, chunk.sha256)
        )
        took = time.perf_counter() - started
        self.spent.cpu_s += cpu_s
        self.spent.preparation_s += took
        PREPARATION_SECONDS.observe(took)
        return prepared

    async def infer(self, prepared: Prepared) -> None:
        """Run prepared frames."""
        queued = time.perf_counter()
        output = await self.model.batcher.infer(prepared.batch, self.deadline, self.spent)
        self.inference_s += time.perf_counter() - queued
        self.contrast.append(prepared.contrast)
        self.sharpness.append(prepared.sharpness)
        self.faults.extend(prepared.faults)
        self.outputs.append(output)

    def answer(self, options: pb.ClassifyOptions) -> pb.ClassifyResponse:
        """Bring all frames together."""
        self.reader.end()
        output = join_outputs(self.outputs)
        contrast, sharpness = np.concatenate(self.contrast), np.concatenate(self.sharpness)
        result = classify(self.model.bundle, output, contrast, sharpness, self.faults)
        return classify_response(self.model, options, result, output, self.reader.frame_numbers, self.reader.shape)

    def _prepare(self, frames: NDArray[np.uint8], sha256: bytes) -> Prepared:
        verify_frames(frames, sha256)
        return prepare(frames, self.model.bundle.manifest.input)


class InferenceServicer(pb_grpc.InferenceServiceServicer):  # type: ignore[misc]
    """Serves the model of a host.

    Parameters
    ----------
    host
        Holds the model.
    place
        Which process answers, for the trailing metadata.
    message_timeout_s
        Time that a caller has for its next message, in seconds.
    """

    def __init__(self, host: ModelHost, place: Place = ALONE, *, message_timeout_s: float = MESSAGE_TIMEOUT_S) -> None:
        self._host = host
        self._message_timeout_s = message_timeout_s
        self._reading = asyncio.Semaphore(_READING_CALLS)
        self._process = ((PROCESS_KEY, str(place)),)

    async def Classify(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> pb.ClassifyResponse:
        """Classify the frames of one instance; see the contract."""

        async def answer(deadline: float) -> pb.ClassifyResponse:
            started = time.perf_counter()
            options = _options(await self._read(request_iterator))
            return await self._classify(options, partial(self._next_frames, request_iterator), started, deadline)

        return await self._answered("Classify", answer, context)

    async def ClassifyFrame(  # noqa: N802 - the contract's name
        self, request: pb.ClassifyFrameRequest, context: Any
    ) -> pb.ClassifyFrameResponse:
        """Classify an instance of one frame; see the contract."""

        async def answer(deadline: float) -> pb.ClassifyResponse:
            require_one_frame(request.frame)
            next_frames = partial(_only_frame, request.frame)
            return await self._classify(request.options, next_frames, time.perf_counter(), deadline)

        return pb.ClassifyFrameResponse(result=await self._answered("ClassifyFrame", answer, context))

    async def GetModelMetadata(  # noqa: N802 - the contract's name
        self,
        request: pb.GetModelMetadataRequest,
        context: Any,
    ) -> pb.GetModelMetadataResponse:
        """Tell what serves; see the contract."""
        context.set_trailing_metadata(self._process)
        try:
            return metadata_response(self._model(request.role))
        except (NoModelError, PreconditionError, PermanentError) as error:
            await abort(context, status_of(error), self._process)

    async def _answered(
        self, method: str, answer: Callable[[float], Awaitable[pb.ClassifyResponse]], context: Any
    ) -> pb.ClassifyResponse:
        """Return the answer to a call, within its deadline and its trace, or end the call with a status."""
        context.set_trailing_metadata(self._process)
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        remaining = context.time_remaining()
        limit = LONGEST_CALL_S if remaining is None else min(remaining, LONGEST_CALL_S)
        with span(
            f"fetalmlops.rpc.inference.v1.InferenceService/{method}",
            traceparent=metadata.get("traceparent", ""),
            tracestate=metadata.get("tracestate", ""),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method},
        ) as current:
            failed: Status | None = None
            try:
                async with asyncio.timeout(limit):
                    response = await answer(asyncio.get_running_loop().time() + limit)
            except Exception as error:  # noqa: BLE001 - whatever ends a call ends it with a status
                failed = status_of(error)
            # Not inside of the handler: the abort would keep the error, and its traceback the frames, until they are collected.
            if failed:
                await abort(context, failed, self._process)
            CALLS.labels("OK").inc()
            current.set_attribute("fetalmlops.frames", len(response.frames))
            current.set_attribute("fetalmlops.bundle", response.model.bundle_digest)
            return response

    async def _classify(
        self,
        options: pb.ClassifyOptions,
        next_frames: Callable[[_Call], Awaitable[Prepared | None]],
        started: float,
        deadline: float,
    ) -> pb.ClassifyResponse:
        async with self._model(options.role).lease() as model:
            _require(model, options)
            call, outcome = _Call(model, deadline), "dropped"
            try:
                while (prepared := await next_frames(call)) is not None:
                    await call.infer(prepared)
                response = call.answer(options)
                outcome = "answered"
            finally:
                FRAMES.labels(outcome).inc(len(call.reader.frame_numbers))
        response.energy.CopyFrom(_cost(call))
        response.timing.preparation_ms = call.spent.preparation_s * 1000
        response.timing.inference_ms = call.inference_s * 1000
        total_s = time.perf_counter() - started
        if model.role is Role.CHAMPION:
            CALL_SECONDS.observe(total_s)
        response.timing.total_ms = total_s * 1000
        return response

    async def _next_frames(self, requests: AsyncIterator[pb.ClassifyRequest], call: _Call) -> Prepared | None:
        """Read and prepare the next message; None after the last. Its bytes are gone when the frames begin to wait."""
        if call.begun:
            await call.model.batcher.room()
        async with self._reading:
            request = await self._read(requests)
            if request is None:
                return None
            if request.WhichOneof("part") != "frames":
                msg = "Expected frames in every message after the first, got another part; send options once"
                raise PermanentError(msg, reason="message-order")
            return await call.prepare(request.frames)

    async def _read(self, requests: AsyncIterator[pb.ClassifyRequest]) -> pb.ClassifyRequest | None:
        async with asyncio.timeout(self._message_timeout_s):
            return await anext(requests, None)

    def _model(self, name: str) -> ServedModel:
        role = Role(name or Role.CHAMPION)
        if role not in _ROLES:
            msg = f"Expected a role among {', '.join(_ROLES)}, got another; ask for one of these"
            raise PermanentError(msg, reason=ROLE_REASON)
        if self._host.current is None:
            raise NoModelError
        model = self._host.model(role)
        if model is None:
            msg = f"Expected a model in the role {role}, got none; promote one, or ask for the champion"
            raise PreconditionError(msg, ROLE_REASON)
        return model


async def _only_frame(frame: pb.FrameChunk, call: _Call) -> Prepared | None:
    return None if call.begun else await call.prepare(frame)


def _options(request: pb.ClassifyRequest | None) -> pb.ClassifyOptions:
    if request is not None and request.WhichOneof("part") == "options":
        return request.options
    msg = "Expected options in the first message, got another part or no message; send options first"
    raise PermanentError(msg, reason="message-order")


def _require(model: ServedModel, options: pb.ClassifyOptions) -> None:
    pipeline = model.bundle.manifest.pipeline
    if options.pipeline_digest and options.pipeline_digest != pipeline.digest:
        msg = (
            f"Expected frames of the pipeline {pipeline.name}, digest {pipeline.digest[:12]}…, got another's; "
            "normalise the instance again by that one, or promote a bundle for the other"
        )
        raise PermanentError(msg, reason=PIPELINE_REASON)
    if options.bundle_digest and options.bundle_digest != model.bundle.digest:
        msg = f"Expected the bundle that was asked for, got {model.bundle.digest[:12]}… serving; ask for it, or for any"
        raise PreconditionError(msg, "bundle-digest")
    if options.plane_labels and [*options.plane_labels] != model.bundle.manifest.planes:
        msg = "Expected the labels that were asked for, got a bundle with others; read GetModelMetadata"
        raise PreconditionError(msg, "labels")


def _cost(call: _Call) -> pb.Energy:
    """Count an answered call, and return the energy that it took."""
    meter = process_meter()
    cost = meter.rates.cost(call.spent.cpu_s, call.spent.engine_s)
    meter.count(images=1, frames=len(call.reader.frame_numbers))
    CALL_JOULES.labels(cost.method).inc(cost.joules)
    trace.get_current_span().set_attributes({**call.spent.attributes(), "fetalmlops.energy.joules": cost.joules})
    return pb.Energy(joules=cost.joules, method=cost.method, source=cost.source)
