"""The Open Inference Protocol over real gRPC: Triton's client asks our server, and our client asks a server in its place."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from fetalmlops import __version__
from fetalmlops.classifier.asking import open_asking
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.engine import OUTPUT_NAMES
from fetalmlops.domain.models.manifest import MANIFEST_NAME
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.channels import PIPELINE_REASON
from fetalmlops.platform.inference.client import Classification, InferenceClient
from fetalmlops.platform.inference.open_inference import OpenInferenceClient
from fetalmlops.platform.inference.promotion import promote
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.service import Service
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2 as pb
from fetalmlops.rpc.open_inference.v2 import open_inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fetalmlops.platform.settings import Settings

TRITON = Path(__file__).parents[2] / "support" / "triton.py"
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def batch(bundle: Bundle, frames: np.ndarray) -> np.ndarray:
    return prepare(frames, bundle.manifest.input).batch


def infer_request(batch: np.ndarray, **changes: Any) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="frames", datatype="FP32", shape=[len(batch), 1, *batch.shape[1:]]
    )
    values = {"model_name": "demonstration", "inputs": [tensor], "raw_input_contents": [batch.tobytes()]}
    return pb.ModelInferRequest(**{**values, **changes})


@asynccontextmanager
async def stub_of(target: str) -> AsyncIterator[pb_grpc.GRPCInferenceServiceStub]:
    async with grpc.aio.insecure_channel(target) as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


async def status_of(target: str, request: pb.ModelInferRequest) -> grpc.StatusCode:
    async with stub_of(target) as stub:
        try:
            await stub.ModelInfer(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_tritons_client_gets_what_the_engine_says(
    serving: Callable, bundle: Bundle, batch: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "frames.npy", batch[:3])
    manifest = bundle.manifest
    async with serving() as (_, target):
        command = [sys.executable, TRITON, target, manifest.name, manifest.version, tmp_path / "frames.npy"]
        result = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["live"], told["ready"], told["model_ready"]) == (True, True, True)
    assert told["other_ready"] == [False, False]
    assert told["server"] == {"name": "fetalmlops", "version": __version__}
    expected = OpenVinoEngine(bundle).infer(batch[:3])
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(told["outputs"][name], getattr(expected, name), atol=1e-5, err_msg=name)
    assert (told["some"], told["id"], told["version"]) == (["logits"], "7", manifest.version)
    rows, columns = map(str, (manifest.input.rows, manifest.input.columns))
    assert told["model"]["inputs"] == [{"name": "frames", "datatype": "FP32", "shape": ["-1", "1", rows, columns]}]
    shapes = {each["name"]: each["shape"] for each in told["model"]["outputs"]}
    assert shapes == {name: ["-1", *map(str, getattr(expected, name).shape[1:])] for name in OUTPUT_NAMES}
    assert (told["model"]["versions"], told["model"]["platform"]) == ([manifest.version], "openvino_onnx")
    assert told["statuses"] == {
        "other model": "StatusCode.NOT_FOUND",
        "other version": "StatusCode.NOT_FOUND",
        "other model's metadata": "StatusCode.NOT_FOUND",
        "other size": "StatusCode.INVALID_ARGUMENT",
        "other type": "StatusCode.INVALID_ARGUMENT",
        "other output": "StatusCode.INVALID_ARGUMENT",
        "classes": "StatusCode.INVALID_ARGUMENT",
    }


async def test_values_come_back_in_the_form_in_which_they_went(serving: Callable, batch: np.ndarray) -> None:
    request = infer_request(batch[:2], raw_input_contents=[])
    request.inputs[0].contents.fp32_contents.extend(batch[:2].ravel().tolist())
    async with serving() as (_, target), stub_of(target) as stub:
        raw, typed = await stub.ModelInfer(infer_request(batch[:2])), await stub.ModelInfer(request)
    assert not typed.raw_output_contents
    assert not any(tensor.contents.ByteSize() for tensor in raw.outputs)
    for index, tensor in enumerate(raw.outputs):
        values = np.frombuffer(raw.raw_output_contents[index], np.float32).reshape(tensor.shape)
        np.testing.assert_allclose(
            np.reshape(typed.outputs[index].contents.fp32_contents, tensor.shape), values, atol=1e-6
        )


def _input(**changes: Any) -> Callable[[pb.ModelInferRequest], None]:
    def change(request: pb.ModelInferRequest) -> None:
        for name, value in changes.items():
            if name == "shape":
                request.inputs[0].shape[:] = value
            else:
                setattr(request.inputs[0], name, value)

    return change


BROKEN = [
    _input(name="other"),
    _input(datatype="FP16"),
    _input(shape=[]),
    _input(shape=[0, 1, 128, 160]),
    _input(shape=[-1, 1, 128, 160]),
    _input(shape=[2, 1, 128, 160]),
    _input(shape=[1 << 62, 1, 128, 160]),
    _input(shape=[1, 1, 160, 128]),
    lambda request: request.ClearField("inputs"),
    lambda request: request.inputs.append(request.inputs[0]),
    lambda request: request.ClearField("raw_input_contents"),
    lambda request: request.raw_input_contents.append(b""),
    lambda request: request.raw_input_contents.__setitem__(0, request.raw_input_contents[0][:-1]),
    lambda request: request.inputs[0].contents.fp32_contents.append(0.0),
]


async def test_tensors_against_the_metadata_are_invalid_arguments(
    serving: Callable, bundle: Bundle, batch: np.ndarray
) -> None:
    assert (bundle.manifest.input.rows, bundle.manifest.input.columns) == (128, 160)
    async with serving() as (_, target):
        for index, change in enumerate(BROKEN):
            request = infer_request(batch[:1])
            change(request)
            assert await status_of(target, request) is grpc.StatusCode.INVALID_ARGUMENT, index
        assert await status_of(target, infer_request(batch[:1])) is grpc.StatusCode.OK


async def test_without_a_model_nothing_is_ready(serving: Callable, batch: np.ndarray) -> None:
    async with serving(served=None) as (_, target), stub_of(target) as stub:
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="demonstration"))).ready
        assert await status_of(target, infer_request(batch[:1])) is grpc.StatusCode.UNAVAILABLE


async def test_it_shares_the_queue_and_its_bound(serving: Callable, bundle: Bundle, batch: np.ndarray) -> None:
    many = np.repeat(batch[:1], 16, axis=0)
    async with serving(queue_frames=16, max_batch=2) as (_, target):
        found = await asyncio.gather(*(status_of(target, infer_request(many)) for _ in range(12)))
    assert {*found} <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert found.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= 6
    assert grpc.StatusCode.OK in found


async def test_health_and_reflection_know_both_services(serving: Callable) -> None:
    async with serving() as (_, target):

        def read() -> tuple[set[str], set[str]]:
            with grpc.insecure_channel(target) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                file = database.FindFileContainingSymbol(SERVICE)
                return {*database.get_services()}, {each.name for each in file.service[0].method}

        services, methods = await asyncio.to_thread(read)
        async with grpc.aio.insecure_channel(target) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert {SERVICE, "fetalmlops.rpc.inference.v1.InferenceService"} <= services
    assert methods == {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"}
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def compare(found: Classification, expected: Classification) -> None:
    assert found.model.engine == f"open-inference fetalmlops {__version__}"
    assert found.model.precision == "server"
    own = {"precision": found.model.precision, "engine": found.model.engine}
    assert found.model == dataclasses.replace(expected.model, **own)
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert found.brain_probabilities == pytest.approx(expected.brain_probabilities, abs=1e-5)
    for name in ("plane", "brain_plane", "best_frame", "decision", "reasons"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.ood_score == pytest.approx(expected.ood_score, rel=1e-4)
    np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-5)
    np.testing.assert_allclose(found.explanation, expected.explanation, atol=1e-4)


async def test_its_client_says_what_our_own_client_says(serving: Callable, bundle: Bundle, frames: np.ndarray) -> None:
    numbers = [*range(5, 5 + len(frames))]
    cine = np.repeat(frames, 40 // len(frames) + 1, axis=0)
    async with serving() as (_, target), InferenceClient(target) as own, OpenInferenceClient(target) as client:
        client.promote(bundle)
        compare(await client.classify([frames], numbers), await own.classify([frames], numbers))
        chunks, numbers = [cine[:20], cine[20:]], [*range(1, len(cine) + 1)]
        compare(await client.classify(chunks, numbers), await own.classify(chunks, numbers))
        bare = await client.classify([frames[:1]], [1], want_embedding=False, want_explanation=False)
        assert (bare.embedding, bare.explanation) == (None, None)
        assert (await client.metadata()).manifest == bundle.manifest_bytes


def other_reference(bundle: Bundle) -> Bundle:
    """The bundle under the same name and version with other answers than its network gives."""
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    planes = np.roll(bundle.reference.planes, 1, axis=1)
    contents["reference.safetensors"] = dataclasses.replace(bundle.reference, planes=planes).to_bytes()
    return load_bundle(seal_bundle(bundle.manifest, contents))


async def test_a_server_with_another_network_is_waited_for(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    async with serving() as (host, target), OpenInferenceClient(target) as client:
        for promoted_bundle, expected in [
            (None, "a promoted bundle, got none yet"),
            (other_bundle, "demonstration 9.9.9, got other versions"),
            (other_reference(bundle), "the network of demonstration .*, got another"),
        ]:
            if promoted_bundle is not None:
                client.promote(promoted_bundle)
            with pytest.raises(TransientError, match=expected) as caught:
                await client.classify([frames[:1]], [1])
            assert caught.value.everyone
        client.promote(other_bundle)
        await host.swap(other_bundle)
        assert (await client.classify([frames[:1]], [1])).model.version == "9.9.9"
        await host.swap(bundle)
        with pytest.raises(TransientError, match="got NOT_FOUND"):
            await client.classify([frames[:1]], [1])
        client.promote(bundle)
        assert (await client.classify([frames[:1]], [1])).model.version == bundle.manifest.version


async def test_a_server_that_counts_its_versions_is_proven_by_its_answers(bundle: Bundle, frames: np.ndarray) -> None:
    async with counting_server(bundle) as (target, asked), OpenInferenceClient(target) as client:
        client.promote(bundle)
        found = await client.classify([frames[:1]], [1])
    assert found.model.engine == "open-inference triton 2.41.0"
    assert found.model.version == bundle.manifest.version
    assert {*asked} == {"3"}


@pytest.mark.parametrize("fault", ["refuses", "other shape", "lacks one", "not finite"])
async def test_the_frames_are_not_at_fault_for_what_a_server_does(
    bundle: Bundle, frames: np.ndarray, fault: str
) -> None:
    async with counting_server(bundle, fault) as (target, _), OpenInferenceClient(target) as client:
        client.promote(bundle)
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1])
    assert caught.value.everyone == (fault != "not finite")


@asynccontextmanager
async def counting_server(bundle: Bundle, fault: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """A real server whose versions are numbers and whose answers hold typed values, as the protocol lets it.

    Its fault comes after the bundle's reference frames.
    """
    engine, asked = OpenVinoEngine(bundle), []

    class Servicer(pb_grpc.GRPCInferenceServiceServicer):
        async def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:  # noqa: N802
            return pb.ServerMetadataResponse(name="triton", version="2.41.0")

        async def ModelMetadata(self, request: Any, context: Any) -> pb.ModelMetadataResponse:  # noqa: N802
            return pb.ModelMetadataResponse(name=request.name, versions=["1", "3"])

        async def ModelInfer(self, request: Any, context: Any) -> pb.ModelInferResponse:  # noqa: N802
            faulty = fault if asked else ""
            asked.append(request.model_version)
            if faulty == "refuses":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "other shapes")
            shape = request.inputs[0].shape
            output = engine.infer(
                np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape[0], *shape[2:])
            )
            response = pb.ModelInferResponse()
            for name in [each.name for each in request.outputs][::-1]:
                values = getattr(output, name) * (np.nan if faulty == "not finite" else 1)
                shape = [*values.shape, 2] if faulty == "other shape" else values.shape
                tensor = response.outputs.add(name=name, datatype="FP32", shape=shape)
                if faulty == "lacks one" and name == "logits":
                    response.outputs.pop()
                tensor.contents.fp32_contents.extend(values.ravel().tolist())
            return response

    server = grpc.aio.server()
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        await server.stop(0)


async def test_what_cannot_be_classified_is_a_permanent_error(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    async with serving() as (_, target), OpenInferenceClient(target) as client:
        client.promote(bundle)
        for chunks, options, reason in [
            ([], {}, "no-frames"),
            ([frames[:1], frames[:1, :100]], {}, "frame-size"),
            ([frames[:1]], {"pipeline_digest": "0" * 64}, PIPELINE_REASON),
        ]:
            with pytest.raises(PermanentError) as caught:
                await client.classify(chunks, [1], **options)
            assert caught.value.reason == reason
        with pytest.raises(TransientError) as away:
            await client.classify([frames[:1]], [1], bundle_digest="0" * 64)
        assert not away.value.everyone


async def test_a_server_that_is_away_is_away_for_everyone(bundle: Bundle, frames: np.ndarray) -> None:
    async with OpenInferenceClient("127.0.0.1:1", timeout_s=20) as client:
        client.promote(bundle)
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1])
    assert caught.value.everyone


async def test_the_classifier_takes_the_bundle_from_the_promotions(
    serving: Callable, embedded: Settings, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    await promoted(embedded, bundle)
    async with serving() as (host, target):
        chosen = {"protocol": "open-inference", "open_inference_target": target}
        settings = embedded.model_copy(update={"inference": embedded.inference.model_copy(update=chosen)})
        service = Service("classifier", settings, Health("classifier"))
        async with open_asking(service, open_objects(settings)) as client, asyncio.timeout(60):
            assert isinstance(client, OpenInferenceClient)
            await answered(client, frames, bundle)
            await promoted(embedded, other_bundle, Role.SHADOW)
            await promoted(embedded, other_bundle)
            await host.swap(other_bundle)
            await answered(client, frames, other_bundle)
            service.stopping.set()


async def promoted(settings: Settings, bundle: Bundle, role: Role = Role.CHAMPION) -> None:
    publisher = Publisher(settings.kafka, Health("test"))
    await publisher.start()
    objects, files = open_objects(settings), dict(bundle.files)
    await promote(files, role=role, actor="tester", reason="test", objects=objects, publisher=publisher)
    await publisher.stop()


async def answered(client: OpenInferenceClient, frames: np.ndarray, bundle: Bundle) -> None:
    """Wait until a bundle answers; what is said meanwhile is that it does not yet."""
    while True:
        try:
            if (await client.classify([frames[:1]], [1])).model.bundle_digest == bundle.digest:
                return
        except TransientError as error:
            assert error.everyone  # noqa: PT017
        await asyncio.sleep(0.1)
