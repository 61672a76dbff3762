"""The inference service over real gRPC, in one process with its client."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from typing import TYPE_CHECKING

import grpc
import msgspec
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fetalmlops.domain.contracts.planes import PLANES, Decision, ReleaseStatus
from fetalmlops.domain.errors import ContractError, PermanentError, TransientError
from fetalmlops.domain.models.bundle import Reference, load_bundle, seal_bundle
from fetalmlops.domain.models.classify import classify, explain
from fetalmlops.domain.models.engine import OUTPUT_NAMES, EngineOutput, absent_output
from fetalmlops.domain.models.evidence import Evidence
from fetalmlops.domain.models.manifest import Precision, decode_manifest
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.channels import PUSHBACK_KEY, REASON_KEY
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fetalmlops.domain.models.bundle import Bundle


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


@pytest.mark.parametrize(
    ("chunks", "numbers", "reason"),
    [
        ([], [], "no-frames"),
        ([np.zeros((2, 100, 100), np.uint8)], [2, 1], "frame-numbers"),
        ([np.zeros((1, 100, 100), np.uint8), np.zeros((1, 100, 101), np.uint8)], [1, 2], "frame-size"),
        ([np.zeros((1, 600, 100), np.uint8)], [1], "frame-size"),
        ([np.zeros((2, 100, 100), np.uint8)], [1], "pixels"),
        ([np.zeros((65, 20, 20), np.uint8)], [*range(1, 66)], "frame-count"),
    ],
)
async def test_frames_against_the_contract_are_permanent_errors(
    serving: Callable, chunks: list[np.ndarray], numbers: list[int], reason: str
) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        with pytest.raises(PermanentError) as caught:
            await client.classify(chunks, numbers)
    assert caught.value.reason == reason


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


@pytest.mark.parametrize("count", [0, 2])
async def test_another_number_of_frames_in_one_message_is_refused(serving: Callable, count: int) -> None:
    frame = pb.FrameChunk(rows=16, columns=16, frame_numbers=range(1, count + 1), pixels=bytes(256 * count))
    async with serving() as (_, target), grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.InferenceServiceStub(channel).ClassifyFrame(pb.ClassifyFrameRequest(frame=frame), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())[REASON_KEY] == "frame-count"
    assert f"Expected one frame, got {count}" in caught.value.details()


async def raw_status(target: str, *requests: pb.ClassifyRequest) -> tuple[grpc.StatusCode, dict[str, str]]:
    async with grpc.aio.insecure_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pb_grpc.InferenceServiceStub(channel).Classify(iter(requests), timeout=5)
    return caught.value.code(), dict(caught.value.trailing_metadata())


async def test_messages_in_the_wrong_order_are_refused(serving: Callable) -> None:
    options = pb.ClassifyRequest(options=pb.ClassifyOptions())
    async with serving() as (_, target):
        for requests in ([], [pb.ClassifyRequest(frames=pb.FrameChunk())], [options, options], [pb.ClassifyRequest()]):
            status, trailers = await raw_status(target, *requests)
            assert (status, trailers[REASON_KEY]) == (grpc.StatusCode.INVALID_ARGUMENT, "message-order")


async def test_another_bundle_or_other_labels_are_a_failed_precondition(serving: Callable, frames: np.ndarray) -> None:
    async with serving() as (_, target), InferenceClient(target) as client:
        for options, reason in [
            (pb.ClassifyOptions(bundle_digest="0" * 64), "bundle-digest"),
            (pb.ClassifyOptions(plane_labels=["brain", "femur"]), "labels"),
        ]:
            status, trailers = await raw_status(target, pb.ClassifyRequest(options=options))
            assert (status, trailers[REASON_KEY]) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1], bundle_digest="0" * 64)
    assert not caught.value.everyone


async def test_without_a_model_it_is_unavailable_for_everyone(serving: Callable, frames: np.ndarray) -> None:
    async with serving(served=None) as (_, target), InferenceClient(target) as client:
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:1]], [1])
        assert caught.value.everyone
        with pytest.raises(TransientError):
            await client.metadata()


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


async def test_overload_is_told_with_a_time_to_come_back(serving: Callable, bundle: Bundle, frames: np.ndarray) -> None:
    engine = SlowEngine(bundle, 0.01)
    options = {"build_engine": lambda _: engine, "queue_frames": 4, "max_batch": 2, "batch_wait_ms": 0}
    async with serving(**options) as (host, target), InferenceClient(target) as client:
        await client.classify([frames[:1]], [1])
        engine.free.clear()
        calls = [asyncio.create_task(client.classify([frames[:2]], [1, 2])) for _ in range(3)]
        async with asyncio.timeout(30):
            while host.current.batcher.frames_waiting < 4:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        pixels = frames[:1].tobytes()
        chunk = pb.FrameChunk(
            rows=frames.shape[1],
            columns=frames.shape[2],
            frame_numbers=[1],
            pixels=pixels,
            sha256=hashlib.sha256(pixels).digest(),
        )
        requests = [pb.ClassifyRequest(options=pb.ClassifyOptions()), pb.ClassifyRequest(frames=chunk)]
        status, trailers = await raw_status(target, *requests)
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < int(trailers[PUSHBACK_KEY]) < 5000
        with pytest.raises(TransientError) as caught:
            await client.classify(iter([frames[:1]]), [1])
        assert caught.value.everyone
        assert 0 < caught.value.retry_after_s < 5
        engine.free.set()
        await asyncio.gather(*calls)
        assert (await client.classify([frames[:1]], [1])).best_frame == 1


async def test_work_past_its_deadline_or_cancelled_never_reaches_the_engine(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle)
    engine.free.clear()
    options = {"build_engine": lambda _: engine, "batch_wait_ms": 0}
    async with serving(**options) as (host, target), InferenceClient(target) as client:
        first = asyncio.create_task(client.classify([frames[:1]], [1]))
        assert await asyncio.to_thread(engine.began.wait, 30)
        cancelled = asyncio.create_task(client.classify([frames[:3]], [1, 2, 3]))
        with pytest.raises(TransientError) as caught:
            await client.classify([frames[:2]], [1, 2], timeout=0.2)
        assert not caught.value.everyone
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        async with asyncio.timeout(30):
            while not all(each.answer.done() for each in host.current.batcher._waiting):  # noqa: ASYNC110 - a drop has no event
                await asyncio.sleep(0.01)
        engine.free.set()
        await first
        await client.classify([frames[:1]], [1])
    assert engine.batches == [1, 1]


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


async def test_an_error_of_the_callers_own_frames_stays_the_callers(serving: Callable, frames: np.ndarray) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield frames[:1]
        raise OSError

    async with serving() as (_, target), InferenceClient(target) as client:
        with pytest.raises(OSError):  # noqa: PT011 - the caller's own error, unchanged
            await client.classify(broken(), [1, 2])
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


async def test_calls_that_send_nothing_cannot_pile_up(serving: Callable, frames: np.ndarray) -> None:
    async with serving(queue_frames=16) as (_, target), grpc.aio.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        idle = [stub.Classify(timeout=20) for _ in range(16)]
        for call in idle:
            await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
        await asyncio.sleep(0.2)
        status, _ = await raw_status(target, pb.ClassifyRequest(options=pb.ClassifyOptions()))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in idle:
            call.cancel()
        async with InferenceClient(target) as client:
            assert (await client.classify([frames[:1]], [1])).best_frame == 1


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


async def test_a_caller_that_sends_slowly_is_let_go(serving: Callable, frames: np.ndarray) -> None:
    async with serving(message_timeout_s=0.3) as (host, target), grpc.aio.insecure_channel(target) as channel:
        call = pb_grpc.InferenceServiceStub(channel).Classify(timeout=60)
        await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert host.current._calls == 0
        async with InferenceClient(target) as client:
            assert (await client.classify([frames[:1]], [1])).best_frame == 1


async def test_calls_that_stall_delay_others_no_longer_than_a_message_may_take(
    serving: Callable, frames: np.ndarray
) -> None:
    async with serving(message_timeout_s=1.0) as (host, target), grpc.aio.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        stalled = [stub.Classify(timeout=60) for _ in range(20)]
        for call in stalled:
            await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
        async with InferenceClient(target, timeout_s=60) as client:
            assert (await client.classify([frames[:1]], [1])).best_frame == 1
        assert {await call.code() for call in stalled} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert host.current._calls == 0


async def test_what_a_caller_that_went_away_had_sent_is_dropped(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle)
    pixels = np.repeat(frames[:1], 16, axis=0).tobytes()
    chunk = pb.FrameChunk(rows=frames.shape[1], columns=frames.shape[2], frame_numbers=range(1, 17), pixels=pixels)
    chunk.sha256 = hashlib.sha256(pixels).digest()
    async with serving(build_engine=lambda _: engine) as (host, target):
        async with grpc.aio.insecure_channel(target) as channel:
            engine.free.clear()
            for _ in range(4):
                call = pb_grpc.InferenceServiceStub(channel).Classify(timeout=60)
                await call.write(pb.ClassifyRequest(options=pb.ClassifyOptions()))
                await call.write(pb.ClassifyRequest(frames=chunk))
            assert await asyncio.to_thread(engine.began.wait, 30)
            async with asyncio.timeout(30):
                while host.current.batcher.frames_waiting < 48:  # noqa: ASYNC110 - a count has no event
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while host.current._calls:  # noqa: ASYNC110 - the end of a call has no event
                await asyncio.sleep(0.01)
        engine.free.set()
        async with InferenceClient(target, timeout_s=60) as client:
            await client.classify([frames[:1]], [1])
    assert engine.batches == [16, 1]


async def test_work_that_would_be_too_late_is_refused_at_once(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    engine = SlowEngine(bundle, 0.3)
    options = {"build_engine": lambda _: engine, "max_batch": 1, "batch_wait_ms": 0}
    async with serving(**options) as (host, target), InferenceClient(target, timeout_s=120) as client:
        await asyncio.gather(*(client.classify([frames[:1]], [1]) for _ in range(8)))
        ran = len(engine.batches)
        engine.free.clear()
        waiting = [asyncio.create_task(client.classify([frames[:1]], [1])) for _ in range(8)]
        async with asyncio.timeout(60):
            while host.current.batcher.frames_waiting < 7:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        with pytest.raises(TransientError) as caught:
            await client.classify(iter([frames[:1]]), [1], timeout=0.5)
        assert "RESOURCE_EXHAUSTED" in str(caught.value)
        engine.free.set()
        await asyncio.gather(*waiting)
        assert len(engine.batches) == ran + 8
