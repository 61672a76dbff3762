"""What follows a promotion that cannot be obeyed: the old model serves on, an alarm says why, also over a new start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.contracts.events import AlarmRaised, ModelPromoted, Severity
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import ALARM_RAISED
from fetalmlops.domain.errors import DigestMismatchError
from fetalmlops.domain.imaging.pipelines import HARMONISED, find_pipeline
from fetalmlops.domain.models.bundle import Reference
from fetalmlops.domain.models.manifest import PipelineEntry, Precision
from fetalmlops.platform.bus import Publisher, read_events
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.inference.promotion import promote, provision_model, read_history, retire
from fetalmlops.platform.objects import open_objects
from support.promotions import announced, promoted, resealed, running

if TYPE_CHECKING:
    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.settings import Settings
    from support.promotions import Process

F32 = {"FETALMLOPS_INFERENCE__PRECISION": "f32"}


def wrong_references(bundle: Bundle) -> Bundle:
    """A bundle that is whole, and whose network is not the one that its reference outputs are from."""
    reference = bundle.reference
    other = Reference(reference.frames, np.roll(reference.planes, 1, axis=1), reference.brain_planes)
    return resealed(bundle, {bundle.manifest.reference: other.to_bytes()}, version="6.0.1")


def without_f32(bundle: Bundle) -> Bundle:
    variants = {Precision.BF16: bundle.manifest.variants[Precision.BF16]}
    return resealed(bundle, variants=variants, default_precision=Precision.BF16, version="6.0.2")


def of_another_pipeline(bundle: Bundle) -> Bundle:
    entry = PipelineEntry(name=HARMONISED, digest=find_pipeline(HARMONISED).digest)
    return resealed(bundle, pipeline=entry, version="6.0.3")


def without_a_network(bundle: Bundle) -> Bundle:
    return resealed(bundle, {"model.onnx": b"no network"}, version="6.0.4")


async def alarms(settings: Settings, version: str) -> list[AlarmRaised]:
    read = read_events(settings.kafka, ALARM_RAISED, AlarmRaised)
    return [alarm async for _, alarm in read if f" {version}," in alarm.what]


async def refused(process: Process, settings: Settings, version: str, why: str, serving: str) -> None:
    """Wait for a refusal; whatever was promoted, the old one is what serves, and an alarm tells what to do."""
    report = await asyncio.to_thread(process.wait_until, lambda report: version in (report["bundle_refused"] or ""))
    assert why in report["bundle_refused"]
    assert (report["ready"], report["bundle_digest"]) == (True, serving)
    async with InferenceClient(process.target) as client:
        assert (await client.metadata()).model.bundle_digest == serving
    async with asyncio.timeout(30):
        while not (raised := await alarms(settings, version)):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.1)
    assert why in raised[0].what
    assert (raised[0].process, raised[0].severity) == ("inference", Severity.CRITICAL)
    assert "fetalmlops rollback" in raised[0].remedy


async def test_no_damage_takes_the_champion_away(embedded: Settings, bundle: Bundle) -> None:
    good = resealed(bundle, version="6.0.0")
    whole = [
        (wrong_references(bundle), "within 0.001"),
        (without_f32(bundle), "a precision that this bundle has"),
        (of_another_pipeline(bundle), "normalizer.pipelines"),
        (without_a_network(bundle), "a network"),
    ]
    flipped, missing = resealed(bundle, version="6.0.5"), resealed(bundle, version="6.0.6")
    damage = [
        (flipped, {"model.onnx": flipped.files["model.onnx"][:-1] + b"\0"}, "the manifest's digest"),
        (missing, {"ood.safetensors": None}, "ood.safetensors"),
    ]
    await promoted(embedded, dict(good.files))
    with running(embedded, **F32) as process:
        await asyncio.to_thread(process.wait_until, lambda report: report.get("bundle_digest") == good.digest)
        for each, why in whole:
            await promoted(embedded, dict(each.files))
            await refused(process, embedded, each.manifest.version, why, good.digest)
        for each, changes, why in damage:
            await announced(embedded, each.files, changes)
            await refused(process, embedded, each.manifest.version, why, good.digest)
    # A new start finds six champions that cannot serve, and before them one that can.
    with running(embedded, **F32) as process:
        await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        await refused(process, embedded, "6.0.6", "ood.safetensors", good.digest)
        final = resealed(bundle, version="6.1.0")
        await promoted(embedded, dict(final.files))
        report = await asyncio.to_thread(process.wait_until, lambda report: report["bundle_digest"] == final.digest)
        assert report["bundle_refused"] is None


async def test_a_shadow_comes_and_goes_beside_the_champion(embedded: Settings, bundle: Bundle) -> None:
    shadow = resealed(bundle, version="6.2.0")
    objects = open_objects(embedded)
    await promoted(embedded, dict(bundle.files))
    await promoted(embedded, dict(shadow.files), Role.SHADOW)
    publisher = Publisher(embedded.kafka, Health("test"))
    with running(embedded, FETALMLOPS_INFERENCE__SHADOW="true") as process:
        report = await asyncio.to_thread(
            process.wait_until, lambda report: report.get("shadow_bundle_digest") == shadow.digest and report["ready"]
        )
        assert report["bundle_digest"] == bundle.digest
        current = read_history(objects).current(Role.SHADOW)
        assert current is not None
        await retire(current.event, actor="tester", reason="test", objects=objects, publisher=publisher)
        report = await asyncio.to_thread(process.wait_until, lambda report: not report["shadow_bundle_digest"])
        assert (report["ready"], report["bundle_digest"]) == (True, bundle.digest)
    with running(embedded, FETALMLOPS_INFERENCE__SHADOW="true") as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        assert not report.get("shadow_bundle_digest")
    await publisher.stop()


async def test_a_promotion_that_never_reached_the_topic_is_published_by_provisioning(
    embedded: Settings, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = resealed(bundle, version="6.3.0")
    objects = open_objects(embedded)
    publisher = Publisher(embedded.kafka, Health("test"))

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fetalmlops.platform.inference.promotion._publish", die)
        with pytest.raises(KeyboardInterrupt):
            await promote(lost.files, role=Role.CHAMPION, actor="t", reason="t", objects=objects, publisher=publisher)
    found = await provision_model(dict(bundle.files), embedded.kafka, objects, publisher)
    assert isinstance(found, ModelPromoted)
    assert found.bundle_digest == lost.digest
    assert await provision_model(dict(bundle.files), embedded.kafka, objects, publisher) is None
    await publisher.stop()


async def test_a_clock_that_is_behind_promotes_last_all_the_same(
    embedded: Settings, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(embedded)
    await promoted(embedded, dict(bundle.files))
    monkeypatch.setattr("fetalmlops.platform.inference.promotion.time.time", lambda: 1.0)
    late = resealed(bundle, version="6.4.0")
    await promoted(embedded, dict(late.files))
    current = read_history(objects).current(Role.CHAMPION)
    assert current is not None
    assert (current.event.bundle_digest, current.event.replaces) == (late.digest, bundle.digest)


async def test_a_stored_bundle_that_is_damaged_is_not_promoted(embedded: Settings, bundle: Bundle) -> None:
    damaged = resealed(bundle, version="6.5.0")
    before = len(read_history(open_objects(embedded)).promotions)
    uri, size = f"clean/bundles/{damaged.digest}/model.onnx", len(damaged.files["model.onnx"])
    open_objects(embedded).put(uri, bytes(size), "application/onnx")
    with pytest.raises(DigestMismatchError, match=r"model\.onnx"):
        await promoted(embedded, dict(damaged.files))
    assert len(read_history(open_objects(embedded)).promotions) == before
