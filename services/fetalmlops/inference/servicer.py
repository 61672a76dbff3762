"""The two calls of `InferenceService`, and the status in which each ends."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import grpc
import numpy as np
from opentelemetry.trace import SpanKind

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.models.classify import classify
from fetalmlops.domain.models.engine import join_outputs
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.inference.batching import OverloadedError
from fetalmlops.inference.metrics import CALL_SECONDS, CALLS
from fetalmlops.inference.requests import FrameReader, verify_chunk
from fetalmlops.inference.responses import classify_response, metadata_response
from fetalmlops.platform.inference.channels import PUSHBACK_KEY, REASON_KEY
from fetalmlops.platform.telemetry import get_logger, span
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.domain.models.prepare import Prepared
    from fetalmlops.inference.hosting import ModelHost, ServedModel

__all__ = ["InferenceServicer", "NoModelError", "PreconditionError"]

LONGEST_CALL_S: Final = 60.0
"""A call without a deadline, or with a longer one, ends after this time."""

_LEAST_PUSHBACK_S: Final = 0.05
_log = get_logger(__name__)


class PreconditionError(Exception):
    """What serves is not what the caller asked for.

    Parameters
    ----------
    message
        What was expected, what came and what to do.
    reason
        Short lower-case word for it.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoModelError(Exception):
    """No bundle serves yet, or the service is going down."""

    def __init__(self) -> None:
        super().__init__("Expected a bundle that serves, got none; wait for a promotion and try again")


class _Status(NamedTuple):
    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str], ...] = ()


class _Call:
    """One Classify call in work."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self.reader = FrameReader()
        self.contrast: list[NDArray[np.float64]] = []
        self.sharpness: list[NDArray[np.float64]] = []
        self.outputs: list[EngineOutput] = []
        self.preparation_s = 0.0
        self.inference_s = 0.0

    async def add(self, chunk: pb.FrameChunk) -> None:
        """Prepare a message's frames and run them; pixels are not kept."""
        frames = self.reader.read(chunk)
        started = time.perf_counter()
        prepared = await asyncio.to_thread(self._prepare, chunk, frames)
        queued = time.perf_counter()
        output = await self.model.batcher.infer(prepared.batch)
        self.preparation_s += queued - started
        self.inference_s += time.perf_counter() - queued
        self.contrast.append(prepared.contrast)
        self.sharpness.append(prepared.sharpness)
        self.outputs.append(output)

    def answer(self, options: pb.ClassifyOptions) -> pb.ClassifyResponse:
        """Bring all frames together."""
        self.reader.end()
        output = join_outputs(self.outputs)
        contrast, sharpness = np.concatenate(self.contrast), np.concatenate(self.sharpness)
        result = classify(self.model.bundle, output, contrast, sharpness)
        return classify_response(self.model, options, result, output, self.reader.frame_numbers, self.reader.shape)

    def _prepare(self, chunk: pb.FrameChunk, frames: NDArray[np.uint8]) -> Prepared:
        verify_chunk(chunk)
        return prepare(frames, self.model.bundle.manifest.input)


class InferenceServicer(pb_grpc.InferenceServiceServicer):  # type: ignore[misc]
    """Serves the model of a host.

    Parameters
    ----------
    host
        Holds the model.
    """

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    async def Classify(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> pb.ClassifyResponse:
        """Classify the frames of one instance; see the contract."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        remaining = context.time_remaining()
        limit = LONGEST_CALL_S if remaining is None else min(remaining, LONGEST_CALL_S)
        with span(
            "fetalmlops.rpc.inference.v1.InferenceService/Classify",
            traceparent=metadata.get("traceparent", ""),
            tracestate=metadata.get("tracestate", ""),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": "Classify"},
        ) as current:
            try:
                async with asyncio.timeout(limit):
                    response = await self._classify(request_iterator)
            except Exception as error:  # noqa: BLE001 - whatever ends a call ends it with a status
                await _abort(context, error)
            CALLS.labels("OK").inc()
            current.set_attribute("fetalmlops.frames", len(response.frames))
            current.set_attribute("fetalmlops.bundle", response.model.bundle_digest)
            return response

    async def GetModelMetadata(  # noqa: N802 - the contract's name
        self,
        request: pb.GetModelMetadataRequest,  # noqa: ARG002
        context: Any,
    ) -> pb.GetModelMetadataResponse:
        """Tell what serves; see the contract."""
        try:
            return metadata_response(self._model())
        except NoModelError as error:
            await _abort(context, error)

    async def _classify(self, requests: AsyncIterator[pb.ClassifyRequest]) -> pb.ClassifyResponse:
        started = time.perf_counter()
        options = await _read_options(requests)
        async with self._model().lease() as model:
            _require(model, options)
            call = _Call(model)
            async for request in requests:
                if request.WhichOneof("part") != "frames":
                    msg = "Expected frames in every message after the first, got another part; send options once"
                    raise PermanentError(msg, reason="message-order")
                await call.add(request.frames)
            response = call.answer(options)
        response.timing.preparation_ms = call.preparation_s * 1000
        response.timing.inference_ms = call.inference_s * 1000
        total_s = time.perf_counter() - started
        CALL_SECONDS.observe(total_s)
        response.timing.total_ms = total_s * 1000
        return response

    def _model(self) -> ServedModel:
        if self._host.current is None:
            raise NoModelError
        return self._host.current


async def _read_options(requests: AsyncIterator[pb.ClassifyRequest]) -> pb.ClassifyOptions:
    async for request in requests:
        if request.WhichOneof("part") == "options":
            return request.options
        break
    msg = "Expected options in the first message, got another part or no message; send options first"
    raise PermanentError(msg, reason="message-order")


def _require(model: ServedModel, options: pb.ClassifyOptions) -> None:
    if options.bundle_digest and options.bundle_digest != model.bundle.digest:
        msg = f"Expected the bundle that was asked for, got {model.bundle.digest[:12]}… serving; ask for it, or for any"
        raise PreconditionError(msg, "bundle-digest")
    if options.plane_labels and [*options.plane_labels] != model.bundle.manifest.planes:
        msg = "Expected the labels that were asked for, got a bundle with others; read GetModelMetadata"
        raise PreconditionError(msg, "labels")


def _status_of(error: Exception) -> _Status:
    match error:
        case PermanentError():
            return _Status(grpc.StatusCode.INVALID_ARGUMENT, str(error), ((REASON_KEY, error.reason),))
        case PreconditionError():
            return _Status(grpc.StatusCode.FAILED_PRECONDITION, str(error), ((REASON_KEY, error.reason),))
        case OverloadedError():
            pushback = str(round(1000 * max(error.retry_after_s, _LEAST_PUSHBACK_S)))
            return _Status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), ((PUSHBACK_KEY, pushback),))
        case NoModelError():
            return _Status(grpc.StatusCode.UNAVAILABLE, str(error))
        case TimeoutError():
            return _Status(
                grpc.StatusCode.DEADLINE_EXCEEDED, "Expected to answer before the deadline, got no time left"
            )
    _log.error("call_failed", error=type(error).__name__, exc_info=error)
    return _Status(
        grpc.StatusCode.INTERNAL, f"Expected an answer of the model, got {type(error).__name__}; see the log"
    )


async def _abort(context: Any, error: Exception) -> NoReturn:
    status = _status_of(error)
    CALLS.labels(status.code.name).inc()
    await context.abort(status.code, status.message, trailing_metadata=status.trailers)
    raise AssertionError
