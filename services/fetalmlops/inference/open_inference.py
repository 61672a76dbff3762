"""The Open Inference Protocol beside our own: the bare network of the bundle that serves.

Prepared frames in, the network's raw outputs out, under the name and the version of the bundle. What a call asks for runs in
the same queue as that of our own service, under the same bounds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import grpc
import numpy as np
from opentelemetry.trace import SpanKind

from fetalmlops import __version__
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.engine import INPUT_NAME
from fetalmlops.inference.metrics import CALLS
from fetalmlops.inference.requests import MAX_FRAMES
from fetalmlops.inference.servicer import LONGEST_CALL_S
from fetalmlops.inference.statuses import NoModelError, Status, abort, status_of
from fetalmlops.platform.energy.recording import process_meter
from fetalmlops.platform.telemetry import span
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2 as pb
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.models.engine import EngineOutput
    from fetalmlops.inference.hosting import ModelHost, ServedModel

__all__ = ["OpenInferenceServicer"]

_NAME: Final = "fetalmlops"
_TYPE: Final = "FP32"
_LITTLE_ENDIAN: Final = np.dtype("<f4")
_EXTENSIONS: Final = frozenset({"classification", "shared_memory_region"})
"""Parameters of Triton's extensions by which an output would be another: we have none of them, and ServerMetadata says so."""


class _UnknownModelError(Exception):
    """A model that does not serve."""


class OpenInferenceServicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Serves the network of a host's model.

    Parameters
    ----------
    host
        Holds the model.
    """

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._shapes: WeakKeyDictionary[ServedModel, dict[str, tuple[int, ...]]] = WeakKeyDictionary()

    async def ServerLive(self, request: Any, context: Any) -> pb.ServerLiveResponse:  # noqa: ARG002, N802
        """Tell that the server lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> pb.ServerReadyResponse:  # noqa: ARG002, N802
        """Tell whether a model serves."""
        return pb.ServerReadyResponse(ready=self._host.current is not None)

    async def ModelReady(  # noqa: N802
        self,
        request: pb.ModelReadyRequest,
        context: Any,  # noqa: ARG002
    ) -> pb.ModelReadyResponse:
        """Tell whether a model serves; one that is not known does not."""
        try:
            self._model(request.name, request.version)
        except (NoModelError, _UnknownModelError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:  # noqa: ARG002, N802
        """Tell what the server is."""
        return pb.ServerMetadataResponse(name=_NAME, version=__version__)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Any
    ) -> pb.ModelMetadataResponse:
        """Tell what the model takes and gives."""
        try:
            async with self._model(request.name, request.version).lease() as model:
                shapes = await self._output_shapes(model)
        except Exception as error:  # noqa: BLE001 - whatever ends a call ends it with a status
            await abort(context, _status_of(error))
        tensor, manifest = pb.ModelMetadataResponse.TensorMetadata, model.bundle.manifest
        spec = manifest.input
        return pb.ModelMetadataResponse(
            name=manifest.name,
            versions=[manifest.version],
            platform=f"{model.engine.name.partition(' ')[0]}_onnx",
            inputs=[tensor(name=INPUT_NAME, datatype=_TYPE, shape=[-1, 1, spec.rows, spec.columns])],
            outputs=[tensor(name=name, datatype=_TYPE, shape=[-1, *shape]) for name, shape in shapes.items()],
        )

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: Any
    ) -> pb.ModelInferResponse:
        """Run the network."""
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        remaining = context.time_remaining()
        limit = LONGEST_CALL_S if remaining is None else min(remaining, LONGEST_CALL_S)
        deadline = asyncio.get_running_loop().time() + limit
        with span(
            "inference.GRPCInferenceService/ModelInfer",
            traceparent=metadata.get("traceparent", ""),
            tracestate=metadata.get("tracestate", ""),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": "ModelInfer"},
        ):
            failed: Status | None = None
            try:
                async with (
                    asyncio.timeout(limit),
                    self._model(request.model_name, request.model_version).lease() as model,
                ):
                    names = _wanted(request, model)
                    # Values that are not raw take a while to read.
                    frames = await asyncio.to_thread(_frames, request, model)
                    model.batcher.require_room(len(frames), deadline)
                    output = await model.batcher.infer(frames, deadline)
                    process_meter().count(frames=len(frames))
                    response = await asyncio.to_thread(_response, request, model, names, output)
            except Exception as error:  # noqa: BLE001 - whatever ends a call ends it with a status
                failed = _status_of(error)
            if failed:
                await abort(context, failed)
            CALLS.labels("OK").inc()
            return response

    def _model(self, name: str, version: str) -> ServedModel:
        model = self._host.current
        if model is None:
            raise NoModelError
        manifest = model.bundle.manifest
        if name != manifest.name or version not in ("", manifest.version):
            msg = f"Expected the model that serves, {manifest.name} {manifest.version}, got another; ask for this one"
            raise _UnknownModelError(msg)
        return model

    async def _output_shapes(self, model: ServedModel) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one frame's outputs: no manifest has all of them, so the network is asked, once."""
        if model not in self._shapes:
            spec = model.bundle.manifest.input
            output = await model.batcher.infer(np.zeros((1, spec.rows, spec.columns), np.float32))
            self._shapes[model] = {name: getattr(output, name).shape[1:] for name in model.bundle.manifest.outputs}
        return self._shapes[model]


def _wanted(request: pb.ModelInferRequest, model: ServedModel) -> list[str]:
    given = model.bundle.manifest.outputs
    names = [each.name for each in request.outputs] or [*given]
    if unknown := {*names}.difference(given):
        raise _refusal(f"outputs of {', '.join(given)}", f"{len(unknown)} other")
    if any(name in _EXTENSIONS for each in request.outputs for name in each.parameters):
        raise _refusal("outputs as they are", "a parameter of an extension")
    return names


def _frames(request: pb.ModelInferRequest, model: ServedModel) -> NDArray[np.float32]:
    """Return the prepared frames of a request, [frames, rows, columns]."""
    spec = model.bundle.manifest.input
    if [each.name for each in request.inputs] != [INPUT_NAME]:
        raise _refusal(f"one input, {INPUT_NAME}", f"{len(request.inputs)} of other names")
    tensor = request.inputs[0]
    if tensor.datatype != _TYPE:
        raise _refusal(f"{INPUT_NAME} of the data type {_TYPE}", "another")
    shape = [*tensor.shape]
    if len(shape) != 4 or shape[1:] != [1, spec.rows, spec.columns] or not 1 <= shape[0] <= MAX_FRAMES:
        raise _refusal(f"the shape [1 to {MAX_FRAMES}, 1, {spec.rows}, {spec.columns}]", f"{shape[:8]}")
    return _values(request, shape[0] * spec.rows * spec.columns).reshape(shape[0], spec.rows, spec.columns)


def _values(request: pb.ModelInferRequest, count: int) -> NDArray[np.float32]:
    raw, typed = request.raw_input_contents, request.inputs[0].contents
    if raw:
        if len(raw) != 1 or typed.ByteSize() or len(raw[0]) != count * _LITTLE_ENDIAN.itemsize:
            raise _refusal(f"{count * _LITTLE_ENDIAN.itemsize} raw bytes of one input, and no other contents", "others")
        return np.frombuffer(raw[0], _LITTLE_ENDIAN)
    if len(typed.fp32_contents) != count:
        raise _refusal(f"{count} numbers in fp32_contents", f"{len(typed.fp32_contents)}")
    return np.array(typed.fp32_contents, np.float32)


def _response(
    request: pb.ModelInferRequest, model: ServedModel, names: list[str], output: EngineOutput
) -> pb.ModelInferResponse:
    """Return the answer; its values stand where those of the request stood."""
    manifest = model.bundle.manifest
    response = pb.ModelInferResponse(model_name=manifest.name, model_version=manifest.version, id=request.id)
    for name in names:
        values = getattr(output, name)
        tensor = response.outputs.add(name=name, datatype=_TYPE, shape=values.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(np.ascontiguousarray(values, _LITTLE_ENDIAN).tobytes())
        else:
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
    return response


def _refusal(expected: str, found: str) -> ContractError:
    return ContractError(f"Expected {expected}, got {found}; send what ModelMetadata tells", reason="open-inference")


def _status_of(error: Exception) -> Status:
    if isinstance(error, _UnknownModelError):
        return Status(grpc.StatusCode.NOT_FOUND, str(error))
    return status_of(error)
