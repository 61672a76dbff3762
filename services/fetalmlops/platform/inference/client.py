"""Client of the inference service: frames in, one classification out, statuses as the errors a stage understands."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import numpy as np
from opentelemetry.trace import SpanKind

from fetalmlops.domain.contracts.planes import BrainPlane, Decision, EnergyMethod, Plane, ReleaseStatus, Role
from fetalmlops.domain.energy.attribution import Cost
from fetalmlops.platform.inference.calls import as_error, trace_metadata
from fetalmlops.platform.inference.channels import open_channel
from fetalmlops.platform.inference.pool import Pool
from fetalmlops.platform.inference.sending import send
from fetalmlops.platform.telemetry import span
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.platform.settings import InferenceSettings, TlsSettings

__all__ = ["Classification", "InferenceClient", "ModelIdentity", "ModelMetadata", "open_inference"]

_CHUNK_FRAMES: Final = 16


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
        Likeliest brain sub-plane, given a brain; None where the bundle tells none.
    brain_probabilities
        Calibrated probability of each brain sub-plane, given a brain.
    best_frame
        DICOM frame number (from 1) of the frame that shows the plane best.
    ood_score
        Out-of-scope score of that frame, 1 is the bundle's limit; None where the bundle has none.
    decision, reasons
        What the result asks of its reader, and why it is not more.
    embedding
        Embedding of the best frame, ``float32`` of [length]; None unless wanted and given by the bundle.
    explanation
        Class-activation map of the best frame, ``float32`` of [grid rows, grid columns]; None as the embedding.
    inference_ms
        Time that the service took for the call.
    energy
        Energy that the call took, without its share of the machine's idle power; None where the service does not tell.
    """

    model: ModelIdentity
    plane: Plane
    confidence: float
    probabilities: dict[str, float]
    brain_plane: BrainPlane | None
    brain_probabilities: dict[str, float]
    best_frame: int
    ood_score: float | None
    decision: Decision
    reasons: tuple[str, ...]
    embedding: NDArray[np.float32] | None
    explanation: NDArray[np.float32] | None
    inference_ms: float
    energy: Cost | None = None


@dataclass(frozen=True)
class ModelMetadata:
    """What serves: its identity, and the bytes of its manifest (`fetalmlops.domain.models.manifest.decode_manifest`)."""

    model: ModelIdentity
    manifest: bytes


class InferenceClient:
    """Calls an inference service. Make and use it within one event loop; it is an asynchronous context manager.

    It keeps a connection to each process of the service and asks the one that has least of its calls in work.

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
        self._pool = Pool(partial(open_channel, target, tls))

    @property
    def processes(self) -> frozenset[int]:
        """Numbers of the service's processes that are reached."""
        return self._pool.reached

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def classify(
        self,
        chunks: Iterable[NDArray[np.uint8]],
        frame_numbers: Sequence[int],
        *,
        want_embedding: bool = True,
        want_explanation: bool = True,
        bundle_digest: str = "",
        pipeline_digest: str = "",
        role: Role = Role.CHAMPION,
        patient: bool = True,
        timeout: float | None = None,
    ) -> Classification:
        """Classify the frames of one instance.

        A call that died with its process is sent to another one, and a service that is overloaded is asked again when it says
        so, until the deadline, if `chunks` can be read again: an iterator cannot.

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
        pipeline_digest
            Which normalisation pipeline made the frames; empty to let any bundle judge them.
        role
            Role of the model that is asked.
        patient
            Whether to ask an overloaded service again.
        timeout
            Deadline in seconds; default: the client's.

        Raises
        ------
        PermanentError
            If the service refuses the frames as against the contract, (reason `PIPELINE_REASON`) as another pipeline's than
            the bundle's, or (reason `ROLE_REASON`) because no model serves in that role.
        TransientError
            If it does not answer, is overloaded or not ready (`everyone` is true), or fails at this call, is too slow for
            its deadline or serves another bundle (`everyone` is false).
        """
        options = pb.ClassifyOptions(
            want_embedding=want_embedding,
            want_explanation=want_explanation,
            bundle_digest=bundle_digest,
            pipeline_digest=pipeline_digest,
            role=role,
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout_s if timeout is None else timeout)
        method = "ClassifyFrame" if len(frame_numbers) == 1 else "Classify"
        with span(
            f"fetalmlops.rpc.inference.v1.InferenceService/{method}",
            kind=SpanKind.CLIENT,
            attributes={"rpc.system": "grpc", "rpc.method": method},
        ):

            async def ask(stub: Any, left_s: float, pause_s: float) -> tuple[pb.ClassifyResponse, Any]:
                messages = _frame_chunks(chunks, frame_numbers)
                if len(frame_numbers) == 1:
                    return await _ask_once(stub, options, messages, left_s)
                return await _ask(stub, options, messages, left_s, pause_s)

            try:
                response = await send(
                    self._pool, ask, deadline, again=not isinstance(chunks, Iterator), patient=patient
                )
            except grpc.aio.AioRpcError as error:
                raise as_error(error) from None
        return _classification(response)

    async def metadata(self, *, role: Role = Role.CHAMPION, timeout: float | None = None) -> ModelMetadata:
        """Return what serves in a role. Raises as `classify`."""
        deadline = asyncio.get_running_loop().time() + (self._timeout_s if timeout is None else timeout)

        async def ask(stub: Any, left_s: float, _pause_s: float) -> tuple[pb.GetModelMetadataResponse, Any]:
            call = stub.GetModelMetadata(pb.GetModelMetadataRequest(role=role), timeout=left_s)
            return await call, await call.trailing_metadata()

        try:
            response = await send(self._pool, ask, deadline)
        except grpc.aio.AioRpcError as error:
            raise as_error(error) from None
        return ModelMetadata(_identity(response.model), response.manifest)


def open_inference(settings: InferenceSettings) -> InferenceClient:
    """Return a client of the service that the settings name."""
    return InferenceClient(f"{settings.host}:{settings.port}", settings.tls, timeout_s=settings.timeout_s)


async def _ask_once(
    stub: Any, options: pb.ClassifyOptions, messages: Iterator[pb.FrameChunk], timeout: float
) -> tuple[pb.ClassifyResponse, Any]:
    request = pb.ClassifyFrameRequest(options=options, frame=next(messages, None))
    call = stub.ClassifyFrame(request, timeout=timeout, metadata=trace_metadata())
    response = await call
    return response.result, await call.trailing_metadata()


async def _ask(
    stub: Any, options: pb.ClassifyOptions, messages: Iterator[pb.FrameChunk], timeout: float, pause_s: float
) -> tuple[pb.ClassifyResponse, Any]:
    call = stub.Classify(timeout=timeout, metadata=trace_metadata())
    try:
        await call.write(pb.ClassifyRequest(options=options))
        await asyncio.sleep(pause_s)
        for message in messages:
            await call.write(pb.ClassifyRequest(frames=message))
        await call.done_writing()
    except asyncio.InvalidStateError:
        # The service has answered before the last message: its status says why.
        pass
    except BaseException:
        call.cancel()
        raise
    return await call, await call.trailing_metadata()


def _frame_chunks(chunks: Iterable[NDArray[np.uint8]], frame_numbers: Sequence[int]) -> Iterator[pb.FrameChunk]:
    start = 0
    for chunk in chunks:
        for first in range(0, len(chunk), _CHUNK_FRAMES):
            frames = chunk[first : first + _CHUNK_FRAMES]
            pixels = frames.tobytes()
            yield pb.FrameChunk(
                rows=frames.shape[1],
                columns=frames.shape[2],
                frame_numbers=frame_numbers[start : start + len(frames)],
                pixels=pixels,
                sha256=hashlib.sha256(pixels).digest(),
            )
            start += len(frames)


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
        brain_plane=BrainPlane(max(brain_probabilities, key=brain_probabilities.__getitem__))
        if brain_probabilities
        else None,
        brain_probabilities=brain_probabilities,
        best_frame=response.best_frame_number,
        ood_score=None if "ood_score" in response.not_available else response.ood_score,
        decision=Decision(response.decision.outcome),
        reasons=tuple(response.decision.reasons),
        embedding=np.array(response.embedding, np.float32) if response.embedding else None,
        explanation=explanation,
        inference_ms=response.timing.total_ms,
        energy=_energy(response),
    )


def _energy(response: pb.ClassifyResponse) -> Cost | None:
    if not response.HasField("energy"):
        return None
    return Cost(response.energy.joules, EnergyMethod(response.energy.method), response.energy.source)


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
