"""The anonymizer with text detection on, from end to end: the real reader in the real sandbox, the trust in a real Valkey."""

from __future__ import annotations

import asyncio
import io
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import pydicom
import pytest

from fetalmlops.anonymizer.child import CleanFile
from fetalmlops.anonymizer.revisions import Revisions
from fetalmlops.anonymizer.stage import Anonymizer
from fetalmlops.anonymizer.texts import Texts, rules_digest
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.sources import Sources
from fetalmlops.domain.contracts.topics import INSTANCE_RECEIVED
from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.pixels.devices import Device, DeviceProfile, DeviceProfiles
from fetalmlops.domain.deid.pixels.trust import TrustPolicy, TrustState
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, make_instance
from fetalmlops.platform.deid.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.deid.trust import ValkeyTrust
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.streams import Delivery, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from fetalmlops.domain.contracts.events import InstanceReceived
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

    Receive = Callable[..., InstanceReceived]

DEVICE = Device(
    manufacturer="CANARY MAKER", model="MODEL", software="1.0", rows=60, columns=80, photometric=Photometric.MONOCHROME2
)
PROFILE = DeviceProfile(name="maker", version=1, device=DEVICE, rectangles=((8, 10, 72, 50),))


def with_measurement(part10: bytes) -> bytes:
    """Write a measurement into the picture."""
    dataset = pydicom.dcmread(io.BytesIO(part10))
    pixels = dataset.pixel_array.copy()
    region = dataset.SequenceOfUltrasoundRegions[0]
    place = region.RegionLocationMinX0 + 40, region.RegionLocationMinY0 + 40
    cv2.putText(pixels, "BPD 4.71 cm", place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (240,) * 3, 1, cv2.LINE_AA)
    dataset.PixelData = pixels.tobytes()
    target = io.BytesIO()
    dataset.save_as(target)
    return target.getvalue()


@asynccontextmanager
async def running(
    settings: Settings, objects: ObjectStore, *, text: bool = True, devices: Callable[[], DeviceProfiles] | None = None
) -> AsyncIterator[tuple[Anonymizer, Any]]:
    client, key = open_valkey(settings), load_pseudonym_key(settings)
    profiles = DeviceProfiles([PROFILE])
    devices = devices or (lambda: profiles)
    trust = ValkeyTrust(client, key, rules_digest(STREAM.digest, profiles.digest), TrustPolicy(2, 1000))
    vault = ValkeyVault(client, load_vault_keys(settings), key.project)
    initializer = "fetalmlops.anonymizer.child:prepare_text" if text else "fetalmlops.platform.dicom.decoding:configure"
    async with Sandbox("fetalmlops.anonymizer.child:deidentify_file", CleanFile, initializer=initializer) as sandbox:
        texts = Texts(trust) if text else Texts()
        yield (
            Anonymizer(objects, sandbox, vault, Revisions(client), key, STREAM, Sources, devices, texts),
            trust,
        )
    await client.aclose()


def deliver(event: InstanceReceived) -> Delivery[InstanceReceived]:
    envelope = Envelope(
        id=event_id(event.content_id, "test", []), type=INSTANCE_RECEIVED.name, source="test", time_ms=0
    )
    return Delivery(Record("t", 0, 0, None, None, []), envelope, event)


@pytest.mark.slow
def test_a_scanner_earns_trust_and_loses_it_by_one_image_with_a_name_in_the_picture(
    embedded: Settings, objects: ObjectStore, receive: Receive
) -> None:
    scanner = uuid.uuid4().hex

    def received(number: int, burn_in: BurnIn) -> InstanceReceived:
        return receive(make_instance(InstanceSpec(number=number, burn_in=burn_in)).data, scanner=scanner)

    clean = [received(number, BurnIn.OUTSIDE) for number in (1, 2, 3)]
    named = received(4, BurnIn.INSIDE)

    async def run() -> None:
        async with running(embedded, objects) as (anonymizer, trust):
            outcomes = [(await anonymizer.handle(deliver(event))).emissions[0] for event in clean]
            reports = [emission.event.deidentification for emission in outcomes]
            assert [(report.text_verdict, report.text_passes) for report in reports] == [
                ("untrusted-checked", 1),
                ("untrusted-checked", 1),
                ("trusted", 0),
            ]
            again = (await anonymizer.handle(deliver(clean[0]))).emissions[0]
            assert again == outcomes[0]
            assert await trust.state(scanner) == TrustState(clean=2)
            trust._policy = TrustPolicy(2, 1)  # all are in the sample
            with pytest.raises(PermanentError) as error:
                await anonymizer.handle(deliver(named))
            assert error.value.reason == "text-found"
            assert "CANARY" not in str(error.value)
            assert await trust.state(scanner) == TrustState(clean=0, findings=1)

    asyncio.run(run())


@pytest.mark.slow
def test_measurements_earn_trust_and_names_never_do(embedded: Settings, objects: ObjectStore, receive: Receive) -> None:
    measured, named = uuid.uuid4().hex, uuid.uuid4().hex

    def received(number: int, scanner: str, burn_in: BurnIn) -> InstanceReceived:
        data = make_instance(InstanceSpec(number=number, burn_in=burn_in)).data
        return receive(with_measurement(data) if scanner == measured else data, scanner=scanner)

    async def run() -> None:
        async with running(embedded, objects) as (anonymizer, trust):
            allowed = 0
            for number in (1, 2, 3):
                event = received(number, measured, BurnIn.OUTSIDE)
                report = (await anonymizer.handle(deliver(event))).emissions[0].event.deidentification
                allowed += report.text_allowed
            assert allowed > 0
            assert report.text_verdict == "trusted"
            assert await trust.state(measured) == TrustState(clean=2)
            for number in (4, 5, 6):
                with pytest.raises(PermanentError) as error:
                    await anonymizer.handle(deliver(received(number, named, BurnIn.INSIDE)))
                assert error.value.reason == "text-found"
            assert await trust.state(named) == TrustState(clean=0, findings=3)

    asyncio.run(run())


def test_changed_device_profiles_are_another_version_of_the_outcome(
    embedded: Settings, objects: ObjectStore, receive: Receive
) -> None:
    event = receive(make_instance(InstanceSpec()).data)
    sets = iter([DeviceProfiles(), DeviceProfiles([PROFILE]), DeviceProfiles()])

    async def run() -> list[str]:
        async with running(embedded, objects, text=False, devices=lambda: next(sets)) as (anonymizer, _):
            return [(await anonymizer.handle(deliver(event))).emissions[0].id for _ in range(3)]

    before, changed, back = asyncio.run(run())
    assert before == back != changed


def test_a_device_profile_proves_pixels_in_the_anonymizer(
    embedded: Settings, objects: ObjectStore, receive: Receive, files: ModuleType
) -> None:
    sample = files.make_sample()
    del sample.attributes[0x0018_6011]
    for tag, word in {0x0008_0070: b"CANARY MAKER", 0x0008_1090: b"MODEL", 0x0018_1020: b"1.0"}.items():
        sample.attributes[tag] = ("LO", word)
    event = receive(sample.part10())

    async def run() -> Any:
        async with running(embedded, objects, text=False) as (anonymizer, _):
            return (await anonymizer.handle(deliver(event))).emissions[0].event

    report = asyncio.run(run()).deidentification
    assert (report.pixel_action, report.device_profile) == ("device_profile", PROFILE.digest)
    assert (report.text_verdict, report.rectangles) == ("", [(8, 10, 72, 50)])
    assert b"CANARY" not in msgspec.json.encode(report)
