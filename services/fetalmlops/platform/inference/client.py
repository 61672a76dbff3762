"""Client of the inference service: frames in, one classification out, statuses as the errors a stage understands."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import grpc
import numpy as np
from opentelemetry.trace import SpanKind

from fetalmlops.domain.contracts.planes import BrainPlane, Decision, Plane, ReleaseStatus
from fetalmlops.domain.errors import FetalMLOpsError, PermanentError, TransientError
from fetalmlops.platform.inference.channels import MESSAGE_OPTIONS, PUSHBACK_KEY, REASON_KEY, channel_credentials
from fetalmlops.platform.telemetry import current_traceparent, span
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.platform.settings import InferenceSettings, TlsSettings

__all__ = ["Classification", "InferenceClient", "ModelIdentity", "ModelMetadata", "open_inference"]

INFERENCE: Final = "inference"
"""Name of the inference service as a dependency."""

_CHUNK_FRAMES: Final = 16
_LEAST_WAIT_S: Final = 0.05
_CHANNEL_OPTIONS: Final = (
    *MESSAGE_OPTIONS,
    # A service that comes back is found within a second; the default back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}


@dataclass(frozen=True)
class ModelIdentity:
    """The model behind a result.

    Parameters
    ----------
    name, version
        Name and version of its bundle.
    bundle_digest
        SHA-256 of the bundle's manifest, hexadecimal.
    precision, engine
        Arithmetic, and engine with its version.
    release_status
        What the bundle has proven.
    decision_digest
        SHA-256 of the decision rule, hexadecimal.
    """

    name: str
    version: str
    bundle_digest: str
    precision: str
    engine: str
    release_status: ReleaseStatus
    decision_digest: str


@dataclass(frozen=True, eq=False)
class Classification:
    """The result for one instance.

    Parameters
    ----------
    model
        The model that made it.
    plane, confidence
        Likeliest plane and its calibrated probability.
    probabilities
        Calibrated probability of each plane.
    brain_plane
        Likeliest brain sub-plane, given a brain.
    brain_probabilities
        Calibrated probability of each brain sub-plane, given a brain.
    best_frame
        DICOM frame number (from 1) of the frame that shows the plane best.
    ood_score
        Out-of-scope score of that frame; 1 is the bundle's limit.
    decision, reasons
        What the result asks of its reader, and why it is not more.
    embedding
        Embedding of the best frame, ``float32`` of [length]; None unless wanted.
    explanation
        Class-activation map of the best frame, ``float32`` of [grid rows, grid columns]; None unless wanted.
    inference_ms
        Time that the service took for the call.
    """

    model: ModelIdentity
    plane: Plane
    confidence: float
    probabilities: dict[str, float]
    brain_plane: BrainPlane
    brain_probabilities: dict[str, float]
    best_frame: int
    ood_score: float
    decision: Decision
    reasons: tuple[str, ...]
    embedding: NDArray[np.float32] | None
    explanation: NDArray[np.float32] | None
    inference_ms: float


@dataclass(frozen=True)
class ModelMetadata:
    """What serves: its identity, and the bytes of its manifest (`fetalmlops.domain.models.manifest.decode_manifest`)."""

    model: ModelIdentity
    manifest: bytes


class InferenceClient:
    """Calls an inference service. Make and use it within one event loop; it is an asynchronous context manager.

    Parameters
    ----------
    target
        ``host:port`` or another gRPC target.
    tls
        TLS of the connection; None for none.
    timeout_s
        Deadline of a call that gives none.
    """

    def __init__(self, target: str, tls: TlsSettings | None = None, *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        if tls is not None and tls.enabled:
            self._channel = grpc.aio.secure_channel(target, channel_credentials(tls), options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        self._stub = pb_grpc.InferenceServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def classify(
        self,
        chunks: Iterable[NDArray[np.uint8]],
        frame_numbers: Sequence[int],
        *,
        want_embedding: bool = True,
        want_explanation: bool = True,
        bundle_digest: str = "",
        timeout: float | None = None,
    ) -> Classification:
        """Classify the frames of one instance.

        A service that is overloaded is asked again when it says so, until the deadline, if `chunks` can be read again: an
        iterator cannot.

        Parameters
        ----------
        chunks
            Grey frames in order, each chunk ``uint8`` of [frames, rows, columns]; any number of frames a chunk.
        frame_numbers
            DICOM frame numbers (from 1) of all frames, increasing.
        want_embedding, want_explanation
            Whether to return them.
        bundle_digest
            The only bundle whose answer is wanted; empty for any.
        timeout
            Deadline in seconds; default: the client's.

        Raises
        ------
        PermanentError
            If the service refuses the frames as against the contract.
        TransientError
            If it does not answer, is overloaded or not ready (`everyone` is true), or fails at this call, is too slow for
            its deadline or serves another bundle (`everyone` is false).
        """
        options = pb.ClassifyOptions(
            want_embedding=want_embedding, want_explanation=want_explanation, bundle_digest=bundle_digest
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout_s if timeout is None else timeout)
        with span(
            "fetalmlops.rpc.inference.v1.InferenceService/Classify",
            kind=SpanKind.CLIENT,
            attributes={"rpc.system": "grpc", "rpc.method": "Classify"},
        ):
            while True:
                try:
                    requests = _requests(options, chunks, frame_numbers)
                    return _classification(await self._call(requests, deadline - loop.time()))
                except grpc.aio.AioRpcError as error:
                    wait_s = _retry_after(error)
                    if wait_s is None or isinstance(chunks, Iterator) or loop.time() + wait_s >= deadline:
                        raise _as_error(error) from None
                    await asyncio.sleep(wait_s)

    async def _call(self, requests: Iterator[pb.ClassifyRequest], timeout: float) -> pb.ClassifyResponse:
        call = self._stub.Classify(timeout=max(0.0, timeout), metadata=_trace_metadata())
        try:
            for request in requests:
                await call.write(request)
            await call.done_writing()
        except asyncio.InvalidStateError:
            # The service has answered before the last message: its status says why.
            pass
        except BaseException:
            call.cancel()
            raise
        response: pb.ClassifyResponse = await call
        return response

    async def metadata(self, *, timeout: float | None = None) -> ModelMetadata:
        """Return what serves. Raises as `classify`."""
        try:
            response = await self._stub.GetModelMetadata(
                pb.GetModelMetadataRequest(), timeout=self._timeout_s if timeout is None else timeout
            )
        except grpc.aio.AioRpcError as error:
            raise _as_error(error) from None
        return ModelMetadata(_identity(response.model), response.manifest)


def open_inference(settings: InferenceSettings) -> InferenceClient:
    """Return a client of the service that the settings name."""
    return InferenceClient(f"{settings.host}:{settings.port}", settings.tls, timeout_s=settings.timeout_s)


def _trace_metadata() -> tuple[tuple[str, str], ...]:
    traceparent = current_traceparent()
    return (("traceparent", traceparent),) if traceparent else ()


def _requests(
    options: pb.ClassifyOptions, chunks: Iterable[NDArray[np.uint8]], frame_numbers: Sequence[int]
) -> Iterator[pb.ClassifyRequest]:
    yield pb.ClassifyRequest(options=options)
    start = 0
    for chunk in chunks:
        for first in range(0, len(chunk), _CHUNK_FRAMES):
            frames = chunk[first : first + _CHUNK_FRAMES]
            pixels = frames.tobytes()
            part = pb.FrameChunk(
                rows=frames.shape[1],
                columns=frames.shape[2],
                frame_numbers=frame_numbers[start : start + len(frames)],
                pixels=pixels,
                sha256=hashlib.sha256(pixels).digest(),
            )
            start += len(frames)
            yield pb.ClassifyRequest(frames=part)


def _classification(response: pb.ClassifyResponse) -> Classification:
    probabilities = {each.label: each.probability for each in response.planes}
    brain_probabilities = {each.label: each.probability for each in response.brain_planes}
    plane = max(probabilities, key=probabilities.__getitem__)
    explanation = None
    if response.HasField("explanation"):
        grid = response.explanation
        explanation = np.array(grid.values, np.float32).reshape(grid.rows, grid.columns)
    return Classification(
        model=_identity(response.model),
        plane=Plane(plane),
        confidence=probabilities[plane],
        probabilities=probabilities,
        brain_plane=BrainPlane(max(brain_probabilities, key=brain_probabilities.__getitem__)),
        brain_probabilities=brain_probabilities,
        best_frame=response.best_frame_number,
        ood_score=response.ood_score,
        decision=Decision(response.decision.outcome),
        reasons=tuple(response.decision.reasons),
        embedding=np.array(response.embedding, np.float32) if response.embedding else None,
        explanation=explanation,
        inference_ms=response.timing.total_ms,
    )


def _identity(model: pb.ModelIdentity) -> ModelIdentity:
    return ModelIdentity(
        name=model.name,
        version=model.version,
        bundle_digest=model.bundle_digest,
        precision=model.precision,
        engine=model.engine,
        release_status=ReleaseStatus(model.release_status),
        decision_digest=model.decision_digest,
    )


def _trailer(error: grpc.aio.AioRpcError, key: str) -> str:
    return next((str(value) for name, value in error.trailing_metadata() or () if name == key), "")


def _retry_after(error: grpc.aio.AioRpcError) -> float | None:
    """Return the seconds after which an overloaded service wants to be asked again; None if asking again is no help."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    pushback = _trailer(error, PUSHBACK_KEY)
    return max(_LEAST_WAIT_S, int(pushback) / 1000) if pushback.isdecimal() else None


def _as_error(error: grpc.aio.AioRpcError) -> FetalMLOpsError:
    status = error.code()
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return PermanentError(str(error.details()), reason=_trailer(error, REASON_KEY) or "refused")
    msg = f"Expected an answer of the inference service, got {status.name}; see its health and its log"
    return TransientError(msg, dependency=INFERENCE, everyone=status in _AWAY)
