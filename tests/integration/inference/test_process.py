"""The process itself: it follows the promotions on a real broker, serves the champion, and ends when asked to."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED
from fetalmlops.domain.errors import TransientError
from fetalmlops.domain.imaging.pipelines import HARMONISED, find_pipeline
from fetalmlops.domain.models.manifest import PipelineEntry
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.client import InferenceClient
from support.promotions import announced, promoted, resealed, running

if TYPE_CHECKING:
    import numpy as np

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.settings import Settings


async def test_promotion_swap_refusal_and_end(
    embedded: Settings, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    await promoted(embedded, dict(bundle.files))
    with running(embedded) as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        assert report["bundle_digest"] == bundle.digest
        assert report["port"] == process.port
        async with InferenceClient(process.target) as client:
            assert (await client.classify([frames[:1]], [1])).model.bundle_digest == bundle.digest

            await promoted(embedded, dict(other_bundle.files), Role.SHADOW)
            await promoted(embedded, dict(other_bundle.files))
            await asyncio.to_thread(
                process.wait_until, lambda report: report.get("bundle_digest") == other_bundle.digest
            )
            assert (await client.classify([frames[:1]], [1])).model.bundle_digest == other_bundle.digest

            third = resealed(bundle, version="9.9.10")
            await announced(embedded, third.files, {"model.onnx": third.files["model.onnx"][:-1] + b"\0"})
            report = await asyncio.to_thread(process.wait_until, lambda report: bool(report.get("bundle_refused")))
            assert report["ready"]
            assert report["bundle_digest"] == other_bundle.digest

            process.popen.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.popen.wait, 40) == 0
            with pytest.raises(TransientError) as caught:
                await client.classify([frames[:1]], [1])
            assert caught.value.everyone


async def test_calls_in_work_finish_after_sigterm(embedded: Settings, bundle: Bundle, frames: np.ndarray) -> None:
    await promoted(embedded, dict(bundle.files))
    with running(embedded) as process:
        await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        async with InferenceClient(process.target) as client:
            cine = frames[[0] * 64]
            calls = [asyncio.create_task(client.classify([cine], [*range(1, 65)], timeout=60)) for _ in range(4)]
            await asyncio.sleep(0.15)
            process.popen.send_signal(signal.SIGTERM)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert await asyncio.to_thread(process.popen.wait, 40) == 0
    # A call that the service had not yet taken may be told that it is away; none may hang or fail otherwise.
    failed = [result for result in results if isinstance(result, BaseException)]
    assert [error for error in failed if not (isinstance(error, TransientError) and error.everyone)] == []
    assert len(failed) < len(results)


async def test_a_shadow_does_not_hide_the_champion_at_a_start(
    embedded: Settings, bundle: Bundle, other_bundle: Bundle
) -> None:
    await promoted(embedded, dict(bundle.files))
    await promoted(embedded, dict(other_bundle.files), Role.SHADOW)
    await promoted(embedded, dict(bundle.files), Role.SHADOW)
    with running(embedded) as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
    assert report["bundle_digest"] == bundle.digest


async def test_a_bad_promotion_does_not_hide_the_one_before_it_at_a_start(embedded: Settings, bundle: Bundle) -> None:
    await promoted(embedded, dict(bundle.files))
    publisher = Publisher(embedded.kafka, Health("test"))
    identity = "96c5a516-bafe-8a00-8879-fda4b0e55166"
    headers = Envelope(id=identity, type=MODEL_PROMOTED.name, source="test", time_ms=0).to_headers()
    key = bundle.manifest.name.encode()
    await publisher.publish_raw(MODEL_PROMOTED.name, key, b"{", headers)
    await publisher.publish_raw(MODEL_PROMOTED.name, key, None, headers)
    await publisher.stop()
    with running(embedded) as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
    assert report["bundle_digest"] == bundle.digest


async def test_a_bundle_whose_pipeline_does_not_run_is_refused_and_named(embedded: Settings, bundle: Bundle) -> None:
    entry = PipelineEntry(name=HARMONISED, digest=find_pipeline(HARMONISED).digest)
    foreign = resealed(bundle, pipeline=entry)
    await promoted(embedded, dict(bundle.files))
    with running(embedded) as process:
        await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        await promoted(embedded, dict(foreign.files))
        report = await asyncio.to_thread(process.wait_until, lambda report: bool(report.get("bundle_refused")))
        assert report["ready"]
        assert report["bundle_digest"] == bundle.digest
        assert "normalizer.pipelines" in report["bundle_refused"]
    with running(embedded, FETALMLOPS_NORMALIZER__PIPELINES='["plain", "harmonised"]') as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        assert (report["bundle_digest"], report["pipeline"]) == (foreign.digest, HARMONISED)
    await promoted(embedded, dict(bundle.files))
