"""Client of a server of the Open Inference Protocol: it runs the network, and what it means is worked out here.

A server such as Triton or KServe holds the bare network of the promoted bundle. Nothing in the protocol says which file that
is, so the bundle's reference frames are run first: whoever reproduces their outputs has the bundle's network.

Import this only where it is used: a process in which another client of the protocol has registered the same names, such as
that of Triton, cannot have both.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Self

import grpc
import numpy as np
from opentelemetry.trace import SpanKind

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import ContractError, PermanentError, TransientError
from fetalmlops.domain.models.check import check_output
from fetalmlops.domain.models.classify import classify, explain
from fetalmlops.domain.models.decision import decision_digest
from fetalmlops.domain.models.engine import INPUT_NAME, OUTPUT_NAMES, EngineOutput, absent_output, join_outputs
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.inference.calls import INFERENCE, as_error, retry_after, trace_metadata
from fetalmlops.platform.inference.channels import PIPELINE_REASON, ROLE_REASON, open_channel
from fetalmlops.platform.inference.client import Classification, ModelIdentity, ModelMetadata
from fetalmlops.platform.telemetry import span
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2 as pb
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.classify import Classified
    from fetalmlops.platform.settings import TlsSettings

__all__ = ["PRECISION", "OpenInferenceClient"]

PRECISION: Final = "server"
"""What stands for the precision of a result: that of the server, which the protocol does not tell."""

_TYPE: Final = "FP32"
_LITTLE_ENDIAN: Final = np.dtype("<f4")
_MESSAGE_BYTES: Final = 3 * 1024 * 1024
"""Most bytes of frames in one message, unless one frame has more: a gRPC server takes 4 MiB unless it is told otherwise."""
_OTHER_MODEL: Final = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT})
"""Statuses of a server that has no such model, or one that takes other tensors: the frames are not at fault."""
_MAY_BE_OTHER: Final = _OTHER_MODEL | {grpc.StatusCode.UNAVAILABLE}
"""Statuses after which the server may hold another network than before."""


@dataclass(frozen=True, eq=False)
class _Proven:
    """A bundle, and the model of the server that reproduces its reference outputs."""

    bundle: Bundle
    version: str
    identity: ModelIdentity


class OpenInferenceClient:
    """Has a server run the promoted bundle's network; serves as `fetalmlops.platform.inference.client.InferenceClient` does.

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
        self._channel = open_channel(target, tls)
        self._stub = pb_grpc.GRPCInferenceServiceStub(self._channel)
        self._promoted: Bundle | None = None
        self._proven: _Proven | None = None
        self._proving = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    def promote(self, bundle: Bundle) -> None:
        """Take a bundle for all calls from now on."""
        self._promoted = bundle

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
        timeout: float | None = None,
    ) -> Classification:
        """Classify the frames of one instance; see `fetalmlops.platform.inference.client.InferenceClient.classify`."""
        _require_champion(role)
        started = time.perf_counter()
        frames = _joined(chunks)
        with span(
            "inference.GRPCInferenceService/ModelInfer",
            kind=SpanKind.CLIENT,
            attributes={"rpc.system": "grpc", "rpc.method": "ModelInfer"},
        ):
            async with _ends_in(self._timeout_s if timeout is None else timeout):
                proven = await self._prove()
                _require(proven.bundle, bundle_digest, pipeline_digest)
                prepared = await asyncio.to_thread(prepare, frames, proven.bundle.manifest.input)
                output = await self._infer(proven.bundle, proven.version, prepared.batch)
        bundle = proven.bundle
        result = classify(bundle, output, prepared.contrast, prepared.sharpness, prepared.faults)
        wants_embedding = want_embedding and "embedding" in bundle.manifest.outputs
        return _classification(
            proven,
            result,
            best_frame=frame_numbers[result.best],
            embedding=output.embedding[result.best] if wants_embedding else None,
            explanation=explain(bundle, output, result, *frames.shape[1:]) if want_explanation else None,
            inference_ms=(time.perf_counter() - started) * 1000,
        )

    async def metadata(self, *, role: Role = Role.CHAMPION, timeout: float | None = None) -> ModelMetadata:
        """Return what serves in a role. Raises as `classify`."""
        _require_champion(role)
        async with _ends_in(self._timeout_s if timeout is None else timeout):
            proven = await self._prove()
        return ModelMetadata(proven.identity, proven.bundle.manifest_bytes)

    async def _prove(self) -> _Proven:
        """Return the promoted bundle, once the server has shown that it runs its network."""
        async with self._proving:
            bundle = self._promoted
            if bundle is None:
                msg = "Expected a promoted bundle, got none yet; wait for a promotion"
                raise TransientError(msg, dependency=INFERENCE, everyone=True)
            if self._proven is None or self._proven.bundle is not bundle:
                self._proven = await self._compare(bundle)
            return self._proven

    async def _compare(self, bundle: Bundle) -> _Proven:
        manifest = bundle.manifest
        try:
            server = await self._stub.ServerMetadata(pb.ServerMetadataRequest())
            model = await self._stub.ModelMetadata(pb.ModelMetadataRequest(name=manifest.name))
        except grpc.aio.AioRpcError as error:
            raise _as_error(error) from None
        version = _version(bundle, model)
        batch = prepare(bundle.reference.frames, manifest.input).batch
        tolerance = max(variant.tolerance for variant in manifest.variants.values())
        try:
            check_output(bundle, await self._infer(bundle, version, batch), tolerance, "the server's precision")
        except ContractError as error:
            raise _away(f"the network of {manifest.name} {manifest.version}", f"another ({error})") from None
        identity = ModelIdentity(
            name=manifest.name,
            version=manifest.version,
            bundle_digest=bundle.digest,
            precision=PRECISION,
            engine=f"open-inference {server.name} {server.version}",
            release_status=manifest.release_status,
            decision_digest=decision_digest(manifest.decision),
        )
        return _Proven(bundle, version, identity)

    async def _infer(self, bundle: Bundle, version: str, batch: NDArray[np.float32]) -> EngineOutput:
        """Run the network on prepared frames, one message after the other."""
        ends = [*range(0, len(batch), max(1, _MESSAGE_BYTES // batch[0].nbytes)), len(batch)]
        return join_outputs([await self._run(bundle, version, batch[start:stop]) for start, stop in pairwise(ends)])

    async def _run(self, bundle: Bundle, version: str, batch: NDArray[np.float32]) -> EngineOutput:
        names = bundle.manifest.outputs
        tensor = pb.ModelInferRequest.InferInputTensor(
            name=INPUT_NAME, datatype=_TYPE, shape=[len(batch), 1, *batch.shape[1:]]
        )
        request = pb.ModelInferRequest(
            model_name=bundle.manifest.name,
            model_version=version,
            inputs=[tensor],
            outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names],
            raw_input_contents=[np.ascontiguousarray(batch, _LITTLE_ENDIAN).tobytes()],
        )
        while True:
            try:
                response = await self._stub.ModelInfer(request, metadata=trace_metadata())
            except grpc.aio.AioRpcError as error:
                wait_s = retry_after(error)
                if wait_s is None:
                    if error.code() in _MAY_BE_OTHER:
                        self._proven = None
                    raise _as_error(error) from None
                await asyncio.sleep(wait_s)
            else:
                return _output(response, names, len(batch))


@asynccontextmanager
async def _ends_in(seconds: float) -> AsyncIterator[None]:
    """End what takes longer, with the error that it is to a stage; a call that is cancelled so ends on the server too."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        msg = "Expected an answer of the inference server before the deadline, got none; see its health and its log"
        raise TransientError(msg, dependency=INFERENCE) from None


def _joined(chunks: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    parts = [chunk for chunk in chunks if len(chunk)]
    if len({part.shape[1:] for part in parts}) != 1:
        msg = (
            "Expected at least one frame, and frames of one size, got none or others; send them as they were normalised"
        )
        raise PermanentError(msg, reason="frame-size" if parts else "no-frames")
    return np.concatenate(parts)


def _require_champion(role: Role) -> None:
    if role is not Role.CHAMPION:
        msg = (
            f"Expected the role champion, which alone a server of the Open Inference Protocol is asked for, got {role}"
        )
        raise PermanentError(msg, reason=ROLE_REASON)


def _require(bundle: Bundle, bundle_digest: str, pipeline_digest: str) -> None:
    if pipeline_digest and pipeline_digest != bundle.manifest.pipeline.digest:
        msg = f"Expected frames of the pipeline {bundle.manifest.pipeline.name}, got another's; normalise the instance again"
        raise PermanentError(msg, reason=PIPELINE_REASON)
    if bundle_digest and bundle_digest != bundle.digest:
        msg = f"Expected the bundle that was asked for, got {bundle.digest[:12]}… promoted; ask for it, or for any"
        raise TransientError(msg, dependency=INFERENCE)


def _version(bundle: Bundle, model: pb.ModelMetadataResponse) -> str:
    """Return the version to ask for: the bundle's own, or the last where a server can only count, as Triton does."""
    own, versions = bundle.manifest.version, [*model.versions]
    if own in versions:
        return own
    counted = sorted((int(version) for version in versions if version.isdecimal()), reverse=True)
    if versions and not counted:
        raise _away(f"{bundle.manifest.name} {own}", "other versions of it")
    return str(counted[0]) if counted else ""


def _output(response: pb.ModelInferResponse, names: Sequence[str], frames: int) -> EngineOutput:
    values = {name: absent_output(name, frames) for name in OUTPUT_NAMES}
    for index, tensor in enumerate(response.outputs):
        try:
            if response.raw_output_contents:
                # A copy, since what was read from bytes cannot be written to, and the outputs are the caller's.
                flat = np.frombuffer(response.raw_output_contents[index], _LITTLE_ENDIAN).astype(np.float32)
            else:
                flat = np.array(tensor.contents.fp32_contents, np.float32)
            values[tensor.name] = flat.reshape([*tensor.shape])
        except (ValueError, IndexError):
            raise _away(f"values of {_TYPE}", "values that do not fit their shape") from None
    found = {tensor.name for tensor in response.outputs}
    axes = {name: 4 if name == "maps" else 2 for name in names}
    if not found.issuperset(names) or any(
        values[name].ndim != axes[name] or len(values[name]) != frames for name in names
    ):
        raise _away(f"the outputs {', '.join(names)} of {frames} frames", "others")
    if not all(np.isfinite(values[name]).all() for name in names):
        msg = "Expected finite outputs of the inference server, got others; see its precision"
        raise TransientError(msg, dependency=INFERENCE)
    return EngineOutput(*(values[name] for name in OUTPUT_NAMES))


def _classification(
    proven: _Proven,
    result: Classified,
    *,
    best_frame: int,
    embedding: NDArray[np.float32] | None,
    explanation: NDArray[np.float32] | None,
    inference_ms: float,
) -> Classification:
    manifest = proven.bundle.manifest
    return Classification(
        model=proven.identity,
        plane=result.plane,
        confidence=result.confidence,
        probabilities=dict(zip(manifest.planes, result.probabilities.tolist(), strict=True)),
        brain_plane=result.brain_plane,
        brain_probabilities=dict(zip(manifest.brain_planes, result.brain_probabilities.tolist(), strict=True)),
        best_frame=best_frame,
        ood_score=result.ood_score,
        decision=result.verdict.decision,
        reasons=tuple(result.verdict.reasons),
        embedding=embedding,
        explanation=explanation,
        inference_ms=inference_ms,
    )


def _as_error(error: grpc.aio.AioRpcError) -> Exception:
    if error.code() in _OTHER_MODEL:
        return _away("the promoted model on the inference server", f"{error.code().name}")
    return as_error(error)


def _away(expected: str, found: str) -> TransientError:
    msg = f"Expected {expected}, got {found}; load the promoted bundle's network into the inference server"
    return TransientError(msg, dependency=INFERENCE, everyone=True)
