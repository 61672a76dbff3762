"""The precision is part of the result: a machine that lacks it refuses, or serves another one and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from fetalmlops.classifier.stage import _identity
from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.events import AlarmRaised, Lineage
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import ALARM_RAISED
from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.models.bundle import Bundle
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.platform.bus import read_topic
from fetalmlops.platform.engines import openvino
from fetalmlops.platform.engines.precision import served_precision
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.settings import InferenceSettings, Settings
from support.promotions import resealed
from support.serving import promote_files
from support.serving import serving as served_process

HEX = "0" * 64


@pytest.fixture
def old_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without bf16, which not every machine that runs this is."""
    monkeypatch.setattr(openvino, "supports_bf16", lambda: False)


@pytest.mark.usefixtures("old_machine")
async def test_a_machine_without_the_precision_refuses_the_bundle(serving: Callable, bundle: Bundle) -> None:
    async with serving(served=None, precision="bf16") as (host, _):
        with pytest.raises(SettingsError, match=r"bf16 for inference\.precision"):
            await host.swap(bundle)
        assert host.current is None


@pytest.mark.usefixtures("old_machine")
async def test_where_it_may_it_serves_f32_and_every_result_says_so(
    serving: Callable, bundle: Bundle, frames: np.ndarray
) -> None:
    async with (
        serving(precision="bf16", precision_fallback=True) as (_, target),
        InferenceClient(target) as client,
    ):
        result = await client.classify([frames[:1]], [1])
        assert (await client.metadata()).model.precision == Precision.F32
    assert result.model.precision == Precision.F32


def test_a_fallback_is_taken_only_where_it_is_needed_and_there_is_one(bundle: Bundle) -> None:
    manifest = bundle.manifest
    bf16 = InferenceSettings(precision="bf16", precision_fallback=True)
    assert served_precision(manifest, bf16, lambda _: True) is Precision.BF16
    assert served_precision(manifest, bf16, lambda wanted: wanted is Precision.F32) is Precision.F32
    assert served_precision(manifest, InferenceSettings(), lambda _: True) is manifest.default_precision
    kept = InferenceSettings(precision="bf16")
    assert served_precision(manifest, kept, lambda wanted: wanted is Precision.F32) is Precision.BF16


def test_results_in_another_precision_are_other_results() -> None:
    same = {"deidentified_sha256": HEX, "frames_sha256": HEX, "rules_digest": HEX, "pipeline_digest": HEX}
    lineages = [Lineage(profile="stream", precision=each, **same) for each in (Precision.F32, Precision.BF16)]
    assert len({_identity(HEX, lineage, Role.CHAMPION) for lineage in lineages}) == 2


@pytest.mark.timeout(120)
async def test_a_precision_that_the_bundle_lacks_is_an_alarm_and_not_ready(embedded: Settings, bundle: Bundle) -> None:
    f32_alone = resealed(bundle, variants={Precision.F32: bundle.manifest.variants[Precision.F32]})
    await promote_files(embedded, f32_alone.files)
    with served_process(embedded, FETALMLOPS_INFERENCE__PRECISION="int8") as service:
        report = await asyncio.to_thread(
            service.wait_until, lambda report: bool(report.get("bundle_refused")) and report["waiting"]
        )
        assert not report["ready"]
        assert "int8" in report["bundle_refused"]
        async with asyncio.timeout(30):
            async for record in read_topic(embedded.kafka, ALARM_RAISED, follow=True):
                alarm = decode(AlarmRaised, record.value)
                if alarm.process == "inference" and "int8" in alarm.what:
                    break
