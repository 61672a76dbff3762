"""The anonymizer with a real vault, store, sandbox and broker: what is durable, in which order, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pydicom
import pytest
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from fetalmlops.anonymizer.child import CleanFile
from fetalmlops.anonymizer.revisions import Revisions
from fetalmlops.anonymizer.stage import Anonymizer
from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import EventQuarantined, InstanceDeidentified, InstanceReceived
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.sources import PixelTrust, Source, Sources
from fetalmlops.domain.contracts.topics import (
    EVENT_QUARANTINED,
    EVENT_QUARANTINED_PHI,
    INSTANCE_DEIDENTIFIED,
    INSTANCE_RECEIVED,
    Zone,
)
from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.platform.bus import Publisher, read_topic
from fetalmlops.platform.deid.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.health import Health
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.streams import Delivery, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from types import ModuleType

    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

    Receive = Callable[..., InstanceReceived]

SOURCES = Sources(
    (
        Source(id="simulator", ae_title="FETALSIM", site="site"),
        Source(id="clean", ae_title="CLEAN", site="site", pixels=PixelTrust.CLEAN),
    )
)


@asynccontextmanager
async def running(
    settings: Settings, objects: ObjectStore, valkey: Any = None
) -> AsyncIterator[tuple[Anonymizer, Any]]:
    client = valkey or open_valkey(settings)
    key = load_pseudonym_key(settings)
    vault = ValkeyVault(client, load_vault_keys(settings), key.project)
    target = "fetalmlops.anonymizer.child:deidentify_file"
    async with Sandbox(target, CleanFile, initializer="fetalmlops.platform.dicom.decoding:configure") as sandbox:
        yield Anonymizer(objects, sandbox, vault, Revisions(client), key, STREAM, lambda: SOURCES), vault
    await client.aclose()


def deliver(event: InstanceReceived) -> Delivery[InstanceReceived]:
    envelope = Envelope(
        id=event_id(event.content_id, "test", []), type=INSTANCE_RECEIVED.name, source="test", time_ms=0
    )
    return Delivery(Record("t", 0, 0, None, None, []), envelope, event)


def drafts(objects: ObjectStore) -> list[Any]:
    return list(objects.incoming_folder(Zone.CLEAN).glob("deid-*"))


def test_a_clean_object_an_identity_and_an_event(
    embedded: Settings, objects: ObjectStore, receive: Receive, files: ModuleType
) -> None:
    event = receive(files.make_sample().part10())

    async def run() -> tuple[Any, Any, Any]:
        async with running(embedded, objects) as (anonymizer, vault):
            first = (await anonymizer.handle(deliver(event))).emissions[0]
            again = (await anonymizer.handle(deliver(event))).emissions[0]
            assert first == again
            return first, await vault.patient(event.context.patient), await vault.instance(event.context.instance)

    emission, patient, instance = asyncio.run(run())
    made: InstanceDeidentified = emission.event
    assert (emission.topic, emission.key) == (INSTANCE_DEIDENTIFIED, event.context.instance)
    assert made.object.uri == f"clean/instances/2026-01-01T00/{emission.id}"
    assert (made.context, made.content_id, made.origin) == (event.context, event.content_id, event.origin)
    assert made.deidentification.pixel_action == "regions"
    clean = pydicom.dcmread(io.BytesIO(objects.get(made.object)))
    assert clean.PatientID == event.context.patient
    assert b"CANARY" not in msgspec.json.encode(made)
    assert patient.name == "CANARY^PATIENT"
    assert instance.uid == "1.2.826.0.1.3680043.10.999.4"
    assert not drafts(objects)


def test_trust_in_a_source_decides_and_is_part_of_the_id(
    embedded: Settings, objects: ObjectStore, receive: Receive, files: ModuleType
) -> None:
    sample = files.make_sample()
    trusted = receive(sample.part10(), source="clean")
    same = msgspec.structs.replace(trusted, context=msgspec.structs.replace(trusted.context, source="simulator"))
    del sample.attributes[0x0018_6011]
    without = receive(sample.part10(), source="clean")

    async def run() -> list[Any]:
        async with running(embedded, objects) as (anonymizer, _):
            return [(await anonymizer.handle(deliver(event))).emissions[0] for event in (trusted, same, without)]

    clean, validated, bare = asyncio.run(run())
    assert clean.id != validated.id
    assert [one.event.deidentification.pixel_action for one in (clean, validated, bare)] == [
        "source_clean",
        "regions",
        "source_clean",
    ]


def test_the_first_receipt_of_a_content_decides_its_revision(
    embedded: Settings, objects: ObjectStore, receive: Receive, files: ModuleType
) -> None:
    event = receive(files.make_sample().part10())

    async def run() -> list[int]:
        async with running(embedded, objects) as (anonymizer, _):
            return [
                (await anonymizer.handle(deliver(msgspec.structs.replace(event, revision=revision))))
                .emissions[0]
                .event.revision
                for revision in (1_767_225_600_500, 1_767_225_600_900, 1_767_225_600_100, 1_767_225_600_400)
            ]

    assert asyncio.run(run()) == [1_767_225_600_500, 1_767_225_600_500, 1_767_225_600_100, 1_767_225_600_100]


def test_what_is_refused_leaves_nothing(
    embedded: Settings, objects: ObjectStore, receive: Receive, files: ModuleType
) -> None:
    sample = files.make_sample()
    part10 = sample.part10()
    del sample.attributes[0x0018_6011]
    cases = {
        "pixels-unproven": receive(sample.part10()),
        "undecodable": receive(b"CANARY" * 100),
        "context-mismatch": receive(part10, instance="f" * 32),
    }
    other_project = receive(part10, project="other")

    async def run() -> None:
        async with running(embedded, objects) as (anonymizer, vault):
            for reason, event in [*cases.items(), ("context-mismatch", other_project)]:
                with pytest.raises(PermanentError) as error:
                    await anonymizer.handle(deliver(event))
                assert error.value.reason == reason
                assert "CANARY" not in str(error.value)
                assert not objects.exists(f"clean/instances/{event.origin.partition('/')[0]}/{event.content_id}")
            assert await vault.instance("f" * 32) is None

    asyncio.run(run())
    assert not drafts(objects)


def test_without_the_vault_no_clean_object_is_written(
    embedded: Settings, objects: ObjectStore, receive: Receive, files: ModuleType
) -> None:
    event = receive(files.make_sample().part10())
    away = open_valkey(embedded.model_copy(update={"valkey": embedded.valkey.model_copy(update={"port": 1})}))

    async def run() -> None:
        async with running(embedded, objects, away) as (anonymizer, _):
            before = list(objects.walk("clean/instances"))
            with pytest.raises(TransientError) as error:
                await anonymizer.handle(deliver(event))
            assert error.value.dependency == "valkey"
            assert list(objects.walk("clean/instances")) == before

    asyncio.run(run())
    assert not drafts(objects)


def test_the_process_brings_events_to_their_topics(embedded: Settings, receive: Receive, files: ModuleType) -> None:
    sample = files.make_sample()
    good = receive(sample.part10())
    del sample.attributes[0x0018_6011]
    unproven = receive(sample.part10())
    _pass_over_what_others_left(embedded)
    environment = os.environ | {"FETALMLOPS_HOME": str(embedded.home)}
    child = subprocess.Popen(
        [sys.executable, "-m", "fetalmlops.anonymizer"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        asyncio.run(_publish(embedded, good, unproven))
        deidentified = _wait_for(embedded, INSTANCE_DEIDENTIFIED, good.content_id)
        quarantined = _wait_for(embedded, EVENT_QUARANTINED_PHI, unproven.content_id)
        twin = _wait_for(embedded, EVENT_QUARANTINED, unproven.content_id)
    finally:
        child.terminate()
        output, errors = child.communicate(timeout=40)
    assert child.returncode == 0
    assert isinstance(deidentified, InstanceDeidentified)
    assert isinstance(quarantined, EventQuarantined)
    assert quarantined.reason == "pixels-unproven"
    assert isinstance(twin, EventQuarantined)
    assert (twin.value, twin.message) == (None, "")
    assert b"CANARY" not in output + errors


@pytest.mark.parametrize("wrong", ["vault.json", "pseudonym.key"])
@pytest.mark.parametrize("there", [True, False], ids=["wrong", "missing"])
def test_a_wrong_key_stops_the_process(embedded: Settings, tmp_path: Path, wrong: str, *, there: bool) -> None:
    home = tmp_path / "home"
    shutil.copytree(embedded.home / "secrets", home / "secrets")
    shutil.copytree(embedded.home / "run", home / "run", ignore=shutil.ignore_patterns("*.sock", "*.pid", "*.log"))
    _mark_vault(embedded)
    ring = json.dumps({"active": "k1", "keys": {"k1": base64.b64encode(bytes(64)).decode()}})
    if there:
        (home / "secrets" / wrong).write_text(ring if wrong == "vault.json" else "00" * 32, "ascii")
    else:
        (home / "secrets" / wrong).unlink()
    environment = os.environ | {"FETALMLOPS_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "fetalmlops.anonymizer"], env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert (b"restore the" if there else b"got no such file") in done.stderr + done.stdout


def _mark_vault(settings: Settings) -> None:
    async def run() -> None:
        valkey = open_valkey(settings)
        await ValkeyVault(valkey, load_vault_keys(settings), settings.project).verify(
            load_pseudonym_key(settings).fingerprint
        )
        await valkey.aclose()

    asyncio.run(run())


def _pass_over_what_others_left(settings: Settings) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers, group_id="anonymizer", enable_auto_commit=False
    )
    try:
        parts = [TopicPartition(INSTANCE_RECEIVED.name, number) for number in range(INSTANCE_RECEIVED.partitions)]
        consumer.assign(parts)
        ends = consumer.end_offsets(parts)
        consumer.commit({part: OffsetAndMetadata(end, "", -1) for part, end in ends.items()})
    finally:
        consumer.close()


async def _publish(settings: Settings, *events: InstanceReceived) -> None:
    publisher = Publisher(settings.kafka, Health("test"))
    for event in events:
        await publisher.publish(INSTANCE_RECEIVED, event.context.instance, deliver(event).envelope, event)
    await publisher.stop()


def _wait_for(settings: Settings, topic: Any, content_id: str) -> Any:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for event in asyncio.run(_read(settings, topic)):
            if event.content_id == content_id:
                return event
        time.sleep(0.3)
    pytest.fail(f"nothing on {topic.name}")


async def _read(settings: Settings, topic: Any) -> list[Any]:
    return [decode(topic.event, record.value) async for record in read_topic(settings.kafka, topic)]
