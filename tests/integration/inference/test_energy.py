"""What a call says of its energy and of where its time went."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from opentelemetry.trace import SpanKind

from fetalmlops.domain.contracts.planes import EnergyMethod
from fetalmlops.inference import metrics
from fetalmlops.platform.energy.meter import Meter
from fetalmlops.platform.energy.recording import process_meter
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.client import InferenceClient
from support.inference import HeldEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from prometheus_client import Counter, Histogram

    from fetalmlops.domain.models.bundle import Bundle


def value(metric: Counter | Histogram, suffix: str = "_total") -> float:
    return sum(sample.value for family in metric.collect() for sample in family.samples if sample.name.endswith(suffix))


async def test_a_call_tells_its_energy_and_the_metrics_count_it(serving: Callable, frames: np.ndarray) -> None:
    before, answered = value(metrics.CALL_JOULES), value(metrics.FRAMES)
    runs, queued = value(metrics.ENGINE_SECONDS, "_count"), value(metrics.QUEUE_SECONDS, "_count")
    used = time.process_time()
    async with serving() as (_, target), InferenceClient(target) as client:
        found = [await client.classify([frames[:2]], [1, 2]) for _ in range(3)]
    energies = [each.energy for each in found if each.energy]
    assert [str(energy.method) for energy in energies] == ["modelled"] * 3
    assert all("W a busy core" in energy.source for energy in energies)
    joules = sum(energy.joules for energy in energies)
    # Work is what a busy core takes beyond an idle one; no call can have used more time than the whole process.
    assert 0 < joules <= (time.process_time() - used) * (3.5 - 0.74)
    assert value(metrics.CALL_JOULES) - before == pytest.approx(joules)
    assert value(metrics.FRAMES) - answered == 6
    assert value(metrics.ENGINE_SECONDS, "_count") - runs == 3
    assert value(metrics.QUEUE_SECONDS, "_count") - queued == 3


async def test_more_frames_take_more_energy(serving: Callable, frames: np.ndarray) -> None:
    many = np.concatenate([frames[:1]] * 16)
    async with serving() as (_, target), InferenceClient(target) as client:
        await client.classify([many], range(1, 17))
        one = [(await client.classify([frames[:1]], [1])).energy for _ in range(3)]
        all_of_them = (await client.classify([many], range(1, 17))).energy
    assert all_of_them
    # Sixteen frames cost many times what one does; processor time is not the wall's, which a busy machine stretches.
    assert all_of_them.joules > 3 * min(energy.joules for energy in one if energy)


async def test_calls_of_one_batch_share_its_run_and_their_spans_tell(
    serving: Callable, bundle: Bundle, frames: np.ndarray, spans: InMemorySpanExporter
) -> None:
    engine = HeldEngine(OpenVinoEngine(bundle))
    async with serving(build_engine=lambda _: engine) as (host, target), InferenceClient(target) as client:
        engine.free.clear()
        engine.began.clear()
        first = asyncio.create_task(client.classify([frames[:1]], [1]))
        async with asyncio.timeout(30):
            await asyncio.to_thread(engine.began.wait, 30)
            waiting = [asyncio.create_task(client.classify([frames[:count]], range(1, count + 1))) for count in (1, 3)]
            while host.current.batcher.frames_waiting < 4:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)
        engine.free.set()
        await asyncio.gather(first, *waiting)
    calls = [dict(span.attributes or {}) for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
    by_frames = sorted((call["fetalmlops.batch.frames"], call["fetalmlops.frames"]) for call in calls)
    assert by_frames == [(1, 1), (4, 1), (4, 3)]
    for call in calls:
        assert call["fetalmlops.energy.joules"] > 0
        assert call["fetalmlops.engine.run_ms"] > 0
        assert call["fetalmlops.queue.wait_ms"] >= 0
    shared = {call["fetalmlops.engine.run_ms"] for call in calls if call["fetalmlops.batch.frames"] == 4}
    assert len(shared) == 1


async def test_an_engine_on_a_gpu_has_that_counted(
    serving: Callable, bundle: Bundle, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def use_gpu(meter: Meter) -> None:
        asked.append(meter)

    monkeypatch.setattr(Meter, "use_gpu", use_gpu)
    engine = HeldEngine(OpenVinoEngine(bundle))
    for name, times in (("torch 2.15.0 cpu", 0), ("torch 2.15.0 cuda", 1)):
        engine.name = name
        async with serving(build_engine=lambda _: engine) as (_, target), InferenceClient(target) as client:
            assert (await client.classify([frames[:1]], [1])).model.engine == name
        assert len(asked) == times


async def test_frames_of_a_refused_call_are_dropped_and_cost_no_answer(serving: Callable, frames: np.ndarray) -> None:
    def outcomes() -> dict[str, float]:
        (family,) = metrics.FRAMES.collect()
        return {sample.labels["outcome"]: sample.value for sample in family.samples if sample.name.endswith("_total")}

    before, joules = outcomes(), value(metrics.CALL_JOULES)
    async with serving() as (_, target), InferenceClient(target) as client:
        with pytest.raises(Exception, match="increasing frame numbers"):
            await client.classify([np.concatenate([frames[:1]] * 17)], [*range(1, 17), 16])
    assert outcomes().get("dropped", 0) - before.get("dropped", 0) == 16
    assert outcomes().get("answered", 0) == before.get("answered", 0)
    assert value(metrics.CALL_JOULES) == joules


def test_the_rate_of_a_process_without_a_recorder_is_the_models() -> None:
    assert process_meter().rates.processor.method is EnergyMethod.MODELLED
