"""A champion and a shadow beside each other: who answers, who gives way, and what the stage of a shadow does with an event."""

from __future__ import annotations

import asyncio
import gc
import uuid
import weakref
from typing import TYPE_CHECKING

import grpc
import msgspec
import pytest

from fetalmlops.classifier.stage import Classifier
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import FramesNormalized, FramesRef, PipelineFrames, Quality
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED, INSTANCE_SHADOWED
from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.domain.imaging.frames import write_frames
from fetalmlops.domain.imaging.pipelines import HARMONISED, PLAIN, find_pipeline
from fetalmlops.domain.models.manifest import PipelineEntry
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.streams import Delivery, Outcome, Record
from fetalmlops.rpc.inference.v1 import inference_pb2 as pb
from fetalmlops.rpc.inference.v1 import inference_pb2_grpc as pb_grpc
from samples import NORMALIZED
from support.inference import HeldEngine
from support.promotions import resealed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.settings import Settings

QUALITY = Quality(brightness=0.2, contrast=0.2, sharpness=0.1, saturation=0.0, sector_share=0.5)


async def test_each_role_is_answered_by_its_own_model(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    async with serving() as (host, target), InferenceClient(target) as client:
        for call in (client.classify([frames[:1]], [1], role=Role.SHADOW), client.metadata(role=Role.SHADOW)):
            with pytest.raises(PermanentError) as caught:
                await call
            assert caught.value.reason == "role"
        await host.swap(other_bundle, Role.SHADOW)
        for role, expected in ((Role.CHAMPION, bundle), (Role.SHADOW, other_bundle)):
            assert (await client.classify([frames[:1]], [1], role=role)).model.bundle_digest == expected.digest
            assert (await client.metadata(role=role)).model.bundle_digest == expected.digest
        await host.end(Role.SHADOW)
        with pytest.raises(PermanentError):
            await client.metadata(role=Role.SHADOW)
        assert (await client.metadata()).model.bundle_digest == bundle.digest


async def test_roles_on_the_wire(serving: Callable) -> None:
    async with serving() as (_, target), grpc.aio.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        await stub.GetModelMetadata(pb.GetModelMetadataRequest(role="champion"))
        expected = {"shadow": grpc.StatusCode.FAILED_PRECONDITION, "emperor": grpc.StatusCode.INVALID_ARGUMENT}
        for role, status in expected.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetModelMetadata(pb.GetModelMetadataRequest(role=role))
            assert caught.value.code() is status
            assert ("fetalmlops-reason", "role") in list(caught.value.trailing_metadata())


async def test_without_a_champion_a_shadow_is_not_known_yet(serving: Callable) -> None:
    async with serving(served=None) as (_, target), InferenceClient(target) as client:
        with pytest.raises(TransientError) as caught:
            await client.metadata(role=Role.SHADOW)
        assert caught.value.everyone


async def test_a_shadow_gives_way_to_the_champion(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    engines: dict[str, HeldEngine] = {}

    def build(made: Bundle) -> HeldEngine:
        engines[made.digest] = HeldEngine(OpenVinoEngine(made))
        return engines[made.digest]

    async with serving(build_engine=build) as (host, target), InferenceClient(target, timeout_s=30) as client:
        await host.swap(other_bundle, Role.SHADOW)
        champion, shadow = engines[bundle.digest], engines[other_bundle.digest]
        champion.began.clear()
        shadow.began.clear()
        champion.free.clear()
        first = asyncio.create_task(client.classify([frames[:1]], [1]))
        assert await asyncio.to_thread(champion.began.wait, 20)
        looked = asyncio.create_task(client.classify([frames[:2]], [1, 2], role=Role.SHADOW))
        model = host.model(Role.SHADOW)
        assert model is not None
        async with asyncio.timeout(20):
            while not model.batcher.frames_waiting:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert not shadow.began.is_set()
        champion.free.set()
        assert (await first).model.bundle_digest == bundle.digest
        assert (await looked).model.bundle_digest == other_bundle.digest


async def test_a_champion_does_not_wait_for_a_shadow_that_hangs(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    engines: dict[str, HeldEngine] = {}

    def build(made: Bundle) -> HeldEngine:
        engines[made.digest] = HeldEngine(OpenVinoEngine(made))
        return engines[made.digest]

    async with serving(build_engine=build) as (host, target), InferenceClient(target, timeout_s=30) as client:
        await host.swap(other_bundle, Role.SHADOW)
        shadow = engines[other_bundle.digest]
        shadow.began.clear()
        shadow.free.clear()
        looked = asyncio.create_task(client.classify([frames[:1]], [1], role=Role.SHADOW))
        assert await asyncio.to_thread(shadow.began.wait, 20)
        for _ in range(3):
            assert (await client.classify([frames[:1]], [1])).model.bundle_digest == bundle.digest
        assert not looked.done()
        shadow.free.set()
        assert (await looked).model.bundle_digest == other_bundle.digest


def normalized(settings: Settings, frames: np.ndarray, pipeline: str = PLAIN) -> FramesNormalized:
    """Frames of one instance, as the normalizer would announce them."""
    content = uuid.uuid4().hex
    uri = f"clean/frames/2026-01-01T00/{content}"
    numbers = [*range(1, len(frames) + 1)]
    stored = open_objects(settings).put(uri, write_frames(frames, numbers), "application/octet-stream")
    ref = FramesRef(
        object=stored,
        total_frames=len(frames),
        frame_numbers=numbers,
        rows=frames.shape[1],
        columns=frames.shape[2],
        quality=QUALITY,
    )
    return msgspec.structs.replace(
        NORMALIZED,
        content_id=content,
        origin=f"2026-01-01T00/{content}",
        frames=ref,
        pipeline_digest=find_pipeline(pipeline).digest,
    )


async def looked_on(settings: Settings, target: str, *events: FramesNormalized) -> list[Outcome]:
    """What the stage of a shadow makes of events."""
    valkey = open_valkey(settings)
    record = Record("test", 0, 0, b"key", b"{}", [])
    outcomes = []
    async with InferenceClient(target) as client:
        stage = Classifier(open_objects(settings), client, Claims(valkey), role=Role.SHADOW).stage
        assert (stage.name, stage.looks_on) == ("shadow", True)
        for event in events:
            envelope = Envelope(id=str(uuid.uuid4()), type="test", source="test", time_ms=0)
            outcome = await stage.handle(Delivery(record, envelope, event))
            if outcome.acknowledged:
                await outcome.acknowledged()
            outcomes.append(outcome)
    await valkey.aclose()
    return outcomes


async def test_the_stage_of_a_shadow_ends_nothing_and_publishes_on_its_own_topic(
    embedded: Settings, serving: Callable, other_bundle: Bundle, frames: np.ndarray
) -> None:
    event = normalized(embedded, frames[:2])
    async with serving() as (host, target):
        await host.swap(other_bundle, Role.SHADOW)
        first, again, report = await looked_on(embedded, target, event, event, NORMALIZED)
    (emission,) = first.emissions
    assert (emission.topic, emission.key) == (INSTANCE_SHADOWED, event.context.study)
    assert emission.event.role is Role.SHADOW
    assert emission.event.lineage.bundle_digest == other_bundle.digest
    assert (again.emissions, again.verdict) == ((), "repeated")
    assert (report.emissions, report.verdict) == ((), "no-image")
    assert not any(outcome.ends for outcome in (first, again, report))


async def test_the_champion_is_claimed_apart_from_the_shadow(
    embedded: Settings, serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    event = normalized(embedded, frames[:1])
    valkey = open_valkey(embedded)
    async with serving() as (host, target), InferenceClient(target) as client:
        await host.swap(bundle, Role.SHADOW)
        (looked,) = await looked_on(embedded, target, event)
        stage = Classifier(open_objects(embedded), client, Claims(valkey)).stage
        envelope = Envelope(id=str(uuid.uuid4()), type="test", source="test", time_ms=0)
        outcome = await stage.handle(Delivery(Record("test", 0, 0, b"key", b"{}", []), envelope, event))
    await valkey.aclose()
    (emission,) = outcome.emissions
    assert (emission.topic, outcome.ends) == (INSTANCE_CLASSIFIED, True)
    assert emission.id != looked.emissions[0].id


async def test_without_a_shadow_an_event_passes_and_its_frames_are_not_read(
    embedded: Settings, serving: Callable, frames: np.ndarray
) -> None:
    event = normalized(embedded, frames[:1])
    open_objects(embedded).delete([event.frames.object.uri])
    async with serving() as (_, target):
        outcomes = await looked_on(embedded, target, event, event)
    assert [(outcome.emissions, outcome.ends, outcome.verdict) for outcome in outcomes] == [
        ((), False, "no-shadow")
    ] * 2


async def test_a_shadow_may_want_the_frames_of_another_pipeline(
    embedded: Settings, serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    other = find_pipeline(HARMONISED).digest
    shadow = resealed(bundle, pipeline=PipelineEntry(name=HARMONISED, digest=other))
    plain = normalized(embedded, frames[:1])
    harmonised = normalized(embedded, frames[1:2], HARMONISED)
    both = msgspec.structs.replace(plain, others=[PipelineFrames(pipeline_digest=other, frames=harmonised.frames)])
    async with serving() as (host, target):
        await host.swap(shadow, Role.SHADOW)
        (outcome,) = await looked_on(embedded, target, both)
        with pytest.raises(PermanentError) as caught:
            await looked_on(embedded, target, msgspec.structs.replace(plain, content_id=uuid.uuid4().hex))
    lineage = outcome.emissions[0].event.lineage
    assert (lineage.pipeline_digest, lineage.frames_sha256) == (other, harmonised.frames.object.sha256)
    assert caught.value.reason == "pipeline"


async def test_a_replaced_engine_is_freed_without_the_garbage_collector(
    serving: Callable, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    engines: dict[str, weakref.ref[HeldEngine]] = {}

    def build(made: Bundle) -> HeldEngine:
        engine = HeldEngine(OpenVinoEngine(made))
        engines[made.digest] = weakref.ref(engine)
        return engine

    gc.disable()
    try:
        async with serving(build_engine=build) as (host, target), InferenceClient(target) as client:
            await client.classify([frames[:1]], [1])
            await host.swap(other_bundle)
            async with asyncio.timeout(20):
                while engines[bundle.digest]() is not None:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.01)
            assert engines[other_bundle.digest]() is not None
    finally:
        gc.enable()
