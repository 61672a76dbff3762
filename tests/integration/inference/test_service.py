"""The inference service over real gRPC, in one process with its client: what it answers."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import grpc
import msgspec
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fetalmlops.domain.contracts.planes import PLANES, Decision, ReleaseStatus
from fetalmlops.domain.errors import ContractError, TransientError
from fetalmlops.domain.models.bundle import Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.classify import classify, explain
from fetalmlops.domain.models.engine import OUTPUT_NAMES, EngineOutput, absent_output
from fetalmlops.domain.models.evidence import Evidence
from fetalmlops.domain.models.manifest import Precision, decode_manifest
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc
from support.inference import SlowEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.models.bundle import Bundle


async def test_the_answer_is_what_the_domain_says(serving: Callable, bundle: Bundle, frames: np.ndarray) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        result = await client.classify([frames[1:2]], [7])
    prepared = prepare(frames[1:2], bundle.manifest.input)
    output = OpenVinoEngine(bundle).infer(prepared.batch)
    expected = classify(bundle, output, prepared.contrast, prepared.sharpness)
    assert list(result.probabilities) == list(PLANES)
    np.testing.assert_allclose(list(result.probabilities.values()), expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(list(result.brain_probabilities.values()), expected.brain_probabilities, atol=1e-6)
    assert (result.plane, result.best_frame, result.decision) == (expected.plane, 7, expected.verdict.decision)
    assert result.ood_score == pytest.approx(expected.ood_score, rel=1e-4)
    np.testing.assert_allclose(result.embedding, output.embedding[0], atol=1e-5)
    np.testing.assert_allclose(result.explanation, explain(bundle, output, expected, *frames.shape[1:]), atol=1e-4)
    assert result.model.bundle_digest == bundle.digest
    assert result.model.release_status is ReleaseStatus.DEMONSTRATION
    assert result.inference_ms > 0


async def test_a_cine_of_64_frames_gives_one_result(serving: Callable, frames: np.ndarray) -> None:
    cine = np.repeat(frames[:2], 32, axis=0)
    numbers = [*range(10, 138, 2)]
    async with serving() as (_, target), InferenceClient(target) as client:
        result = await client.classify([cine[:50], cine[50:]], numbers)
        single = await client.classify([cine[:1]], [10])
    assert result.best_frame in numbers
    assert result.explanation is not None
    assert result.explanation.shape == single.explanation.shape


async def test_noise_is_out_of_scope(serving: Callable) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 300, 400), dtype=np.uint8)
    async with serving() as (_, target), InferenceClient(target) as client:
        result = await client.classify([noise], [1], want_embedding=False, want_explanation=False)
    assert result.decision is Decision.OUT_OF_SCOPE
    assert "ood" in result.reasons
    assert result.embedding is None
    assert result.explanation is None


async def test_metadata_tells_what_serves(serving: Callable, bundle: Bundle) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        metadata = await client.metadata()
    assert metadata.model.bundle_digest == bundle.digest
    assert decode_manifest(metadata.manifest) == bundle.manifest


async def test_calls_share_runs_of_the_engine(serving: Callable, bundle: Bundle, frames: np.ndarray) -> None:
    engine = SlowEngine(bundle, 0.05)
    async with serving(build_engine=lambda _: engine) as (_, target), InferenceClient(target) as client:
        results = await asyncio.gather(*(client.classify([frames[:1]], [1]) for _ in range(12)))
    assert len({tuple(result.probabilities.values()) for result in results}) == 1
    assert sum(engine.batches) == 12
    assert len(engine.batches) < 6


async def test_a_frame_alone_gets_the_same_answer_in_one_message_or_in_a_stream(
    serving: Callable, frames: np.ndarray
) -> None:
    pixels = frames[0].tobytes()
    rows, columns = frames.shape[1:]
    frame = pb.FrameChunk(
        rows=rows, columns=columns, frame_numbers=[3], pixels=pixels, sha256=hashlib.sha256(pixels).digest()
    )
    options = pb.ClassifyOptions(want_embedding=True, want_explanation=True)
    async with serving() as (_, target), grpc.aio.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        alone = (await stub.ClassifyFrame(pb.ClassifyFrameRequest(options=options, frame=frame), timeout=10)).result
        parts = [pb.ClassifyRequest(options=options), pb.ClassifyRequest(frames=frame)]
        streamed = await stub.Classify(iter(parts), timeout=10)
    for answer in (alone, streamed):
        answer.ClearField("timing")
        answer.ClearField("energy")
    assert alone == streamed
    assert alone.best_frame_number == 3


async def test_a_service_that_is_away_is_away_for_everyone_and_found_when_back(
    serving: Callable, frames: np.ndarray
) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        await client.classify([frames[:1]], [1])
        port = target.rpartition(":")[2]
    async with InferenceClient(target) as client:
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1])
        assert caught.value.everyone
        async with serving(port=int(port)), asyncio.timeout(5):
            while True:
                try:
                    await client.classify([frames[:1]], [1])
                    break
                except TransientError:
                    await asyncio.sleep(0.1)


async def test_a_failing_engine_fails_the_call_and_not_the_service(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle)
    async with serving(build_engine=lambda _: engine) as (_, target), InferenceClient(target) as client:
        engine.fail = True
        with pytest.raises(TransientError, match="INTERNAL") as caught:
            await client.classify([frames[:1]], [1])
        assert not caught.value.everyone
        engine.fail = False
        await client.classify([frames[:1]], [1])


async def test_a_swap_under_load_fails_no_call(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    digests: list[str] = []

    async def ask(client: InferenceClient) -> None:
        results = [await client.classify([frames], [1, 2, 3, 4]) for _ in range(25)]
        digests.extend(result.model.bundle_digest for result in results)

    async with serving() as (host, target), InferenceClient(target) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(4)]
        await asyncio.sleep(0.15)
        await host.swap(other_bundle)
        await asyncio.gather(*asking)
        assert (await client.metadata()).model.version == "9.9.9"
    assert len(digests) == 100
    assert set(digests) == {bundle.digest, other_bundle.digest}


async def test_a_bundle_that_fails_its_check_leaves_the_old_one_serving(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    class Wrong(OpenVinoEngine):
        def infer(self, batch: np.ndarray) -> EngineOutput:
            return super().infer(batch[::-1])

    def build(chosen: Bundle) -> OpenVinoEngine:
        return OpenVinoEngine(chosen) if chosen.digest == bundle.digest else Wrong(chosen)

    async with serving(build_engine=build) as (host, target), InferenceClient(target) as client:
        with pytest.raises(ContractError):
            await host.swap(other_bundle)
        assert (await client.classify([frames[:1]], [1])).model.bundle_digest == bundle.digest


async def test_standard_health_and_reflection(serving: Callable, bundle: Bundle) -> None:
    service = "fetalmlops.rpc.inference.v1.InferenceService"
    states = health_pb2.HealthCheckResponse
    for served, expected in [(None, states.NOT_SERVING), (bundle, states.SERVING)]:
        async with serving(served=served) as (_, target), grpc.aio.insecure_channel(target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", service):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == expected
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
            async for response in call:
                assert service in {each.name for each in response.list_services_response.service}
                break


async def test_what_the_bundle_does_not_give_is_none_at_the_client(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    class LogitsOnly(OpenVinoEngine):
        def infer(self, batch: np.ndarray) -> EngineOutput:
            output = super().infer(batch)
            return EngineOutput(output.logits, *(absent_output(name, len(batch)) for name in OUTPUT_NAMES[1:]))

    variants = {Precision.F32: bundle.manifest.variants[Precision.F32]}
    lacking = {"brain_planes": [], "outputs": ("logits",), "embedding_length": 0, "ood": "", "weights": ""}
    lacking |= {"variants": variants, "evidence": Evidence()}
    reference = Reference(frames, bundle.reference.planes, np.empty((len(frames), 0), np.float32)).to_bytes()
    contents = {name: bundle.files[name] for name in ("model.onnx", "card.md")} | {"reference.safetensors": reference}
    bare = load_bundle(seal_bundle(msgspec.structs.replace(bundle.manifest, **lacking), contents))
    async with serving(served=bare, build_engine=LogitsOnly) as (_, target), InferenceClient(target) as client:
        result = await client.classify([frames[1:2]], [7])
        metadata = await client.metadata()
    assert (result.brain_plane, result.brain_probabilities, result.ood_score) == (None, {}, None)
    assert (result.embedding, result.explanation) == (None, None)
    assert sum(result.probabilities.values()) == pytest.approx(1)
    assert "ood" not in result.reasons
    assert decode_manifest(metadata.manifest).lacking == ["brain_planes", "ood_score", "embedding", "explanation"]
