"""Bundles of different pipelines: what the normalizer makes, what a bundle takes, and a change from one to the other."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import msgspec
import pytest

from fetalmlops.classifier.stage import Classifier
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import (
    Deidentification,
    FramesNormalized,
    InstanceClassified,
    InstanceDeidentified,
)
from fetalmlops.domain.contracts.planes import EnergyMethod, FrameMode, SectorShape
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.frames import NormalizedObject
from fetalmlops.domain.imaging.pipelines import HARMONISED, PLAIN, find_pipeline
from fetalmlops.domain.models.bundle import load_bundle, seal_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME, PipelineEntry
from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, make_instance
from fetalmlops.normalizer.stage import Normalizer
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.streams import Delivery, Record
from samples import CONTEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

HEX = "0" * 64


@pytest.fixture(scope="module")
def harmonised_bundle(bundle: Bundle) -> Bundle:
    """The demonstration's network under a manifest that asks for other frames."""
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    entry = PipelineEntry(name=HARMONISED, digest=find_pipeline(HARMONISED).digest)
    return load_bundle(seal_bundle(msgspec.structs.replace(bundle.manifest, pipeline=entry), contents))


def delivered(event: InstanceDeidentified | FramesNormalized) -> Delivery:
    record = Record("test", 0, 0, b"key", b"{}", [])
    return Delivery(record, Envelope(id=str(uuid.uuid4()), type="test", source="test", time_ms=0), event)


async def normalized(objects: ObjectStore, pipelines: Iterable[str]) -> FramesNormalized:
    """What the normalizer says of a simulated instance."""
    content = uuid.uuid4().hex
    uri = f"clean/instances/2026-01-01T00/{content}"
    file = make_instance(InstanceSpec(scanner=SCANNERS[3])).data
    event = InstanceDeidentified(
        content_id=content,
        revision=1,
        origin=f"2026-01-01T00/{content}",
        context=CONTEXT,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
        object=objects.put(uri, file, "application/dicom"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        deidentification=Deidentification(
            edition="2026c", profile="stream", rules_digest=HEX, actions={}, pixel_action="regions"
        ),
    )
    target = "fetalmlops.platform.dicom.decoding:normalize_part10"
    children = Sandbox(target, NormalizedObject, initializer="fetalmlops.platform.dicom.decoding:configure")
    async with children as sandbox:
        outcome = await Normalizer(objects, sandbox, pipelines).handle(delivered(event))
    made = outcome.emissions[0].event
    assert isinstance(made, FramesNormalized)
    return made


async def classified(settings: Settings, target: str, event: FramesNormalized) -> InstanceClassified:
    valkey = open_valkey(settings)
    async with InferenceClient(target) as client:
        stage = Classifier(open_objects(settings), client, Claims(valkey))
        outcome = await stage.handle(delivered(event))
    await valkey.aclose()
    result = outcome.emissions[0].event
    assert isinstance(result, InstanceClassified)
    return result


async def test_a_bundle_takes_the_frames_of_its_pipeline_through_a_change(
    embedded: Settings, serving: Callable, bundle: Bundle, harmonised_bundle: Bundle
) -> None:
    objects = open_objects(embedded)
    both = await normalized(objects, (PLAIN, HARMONISED))
    assert both.frames is not None
    (other,) = both.others
    assert (both.frames.mode, both.frames.sector) == (FrameMode.UNKNOWN, SectorShape.UNKNOWN)
    assert (other.frames.mode, other.frames.sector) == (FrameMode.B_MODE, SectorShape.FAN)
    assert both.frames.object.sha256 != other.frames.object.sha256
    expected = {
        bundle: (find_pipeline(PLAIN).digest, both.frames.object.sha256),
        harmonised_bundle: (find_pipeline(HARMONISED).digest, other.frames.object.sha256),
    }
    async with serving() as (host, target):
        # To the new one, and back again: a rollback finds its frames too.
        for served in (bundle, harmonised_bundle, bundle):
            await host.swap(served)
            event = msgspec.structs.replace(both, content_id=uuid.uuid4().hex)
            result = await classified(embedded, target, event)
            lineage = result.lineage
            assert lineage.bundle_digest == served.digest
            assert (lineage.pipeline_digest, lineage.frames_sha256) == expected[served]
            assert result.measured.energy_method is EnergyMethod.MODELLED
            assert result.measured.joules
            assert result.measured.joules > 0


async def test_frames_of_another_pipeline_are_refused_for_good(
    embedded: Settings, serving: Callable, harmonised_bundle: Bundle
) -> None:
    plain = await normalized(open_objects(embedded), (PLAIN,))
    async with serving(served=harmonised_bundle) as (_, target):
        with pytest.raises(PermanentError, match="harmonised") as caught:
            await asyncio.wait_for(classified(embedded, target, plain), 60)
    assert caught.value.reason == "pipeline"
    assert HEX not in str(caught.value)


async def test_one_pipeline_keeps_the_identity_of_its_events(embedded: Settings) -> None:
    event = await normalized(open_objects(embedded), (PLAIN,))
    assert event.others == []
    assert event.pipeline_digest == find_pipeline(PLAIN).digest
