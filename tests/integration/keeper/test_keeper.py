"""The keeper process against a real broker and a real Valkey: what it replays, and what it closes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType

import msgspec
import pytest

from fetalmlops.domain.contracts.codec import decode, encode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import (
    EventQuarantined,
    Header,
    InstanceReceived,
    QuarantineKind,
    QuarantineOutcome,
    QuarantineResolved,
)
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import EVENT_QUARANTINED_PHI, INSTANCE_RECEIVED, QUARANTINE_RESOLVED
from fetalmlops.platform.bus import Publisher, read_topic
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.health import Health
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.settings import Settings

PATIENCE_S = 60


class Bench:
    """Makes quarantine entries of a stage of its own, and reads what became of them."""

    def __init__(self, settings: Settings, samples: ModuleType) -> None:
        self.settings = settings
        self.samples = samples
        self.stage = f"stage-{uuid.uuid4().hex[:8]}"

    def entry(self, kind: QuarantineKind, key: str) -> EventQuarantined:
        content_id = uuid.uuid4().hex
        event = msgspec.structs.replace(
            self.samples.RECEIVED, content_id=content_id, origin=f"2026-01-01T00/{content_id}"
        )
        identity = event_id(content_id, "listener", [])
        headers = Envelope(id=identity, type="t", source="test", time_ms=0).to_headers()
        return EventQuarantined(
            entry_id=event_id(content_id, f"quarantine/{self.stage}", [identity, "0"]),
            zone="phi",
            stage=self.stage,
            kind=kind,
            reason="test",
            topic=INSTANCE_RECEIVED.name,
            key=key,
            content_id=content_id,
            origin=event.origin,
            context=event.context,
            value=encode(event),
            headers=[Header(name=name, value=value) for name, value in headers],
        )

    def quarantine(self, *entries: EventQuarantined) -> None:
        async def publish() -> None:
            publisher = Publisher(self.settings.kafka, Health("test"))
            for entry in entries:
                envelope = Envelope(
                    id=entry.entry_id, type=EVENT_QUARANTINED_PHI.name, source="test", time_ms=round(time.time() * 1000)
                )
                await publisher.publish(EVENT_QUARANTINED_PHI, entry.key, envelope, entry)
            await publisher.stop()

        asyncio.run(publish())

    def replays(self) -> dict[str, InstanceReceived]:
        """Return the replayed originals by the id of their entry."""

        async def read() -> dict[str, InstanceReceived]:
            found = {}
            async for record in read_topic(self.settings.kafka, INSTANCE_RECEIVED):
                headers = dict(record.headers)
                if headers.get("ce_replaystage") == self.stage.encode():
                    found[headers["ce_replayof"].decode()] = decode(InstanceReceived, record.value)
            return found

        return asyncio.run(read())

    def replayed_headers(self, entry_id: str) -> dict[str, bytes]:
        async def read() -> list[dict[str, bytes]]:
            records = [record async for record in read_topic(self.settings.kafka, INSTANCE_RECEIVED)]
            return [dict(record.headers) for record in records]

        return next(found for found in asyncio.run(read()) if found.get("ce_replayof") == entry_id.encode())

    def resolutions(self) -> dict[str, QuarantineResolved]:
        async def read() -> dict[str, QuarantineResolved]:
            records = [record async for record in read_topic(self.settings.kafka, QUARANTINE_RESOLVED)]
            found = [decode(QuarantineResolved, record.value) for record in records]
            return {item.entry_id: item for item in found}

        return asyncio.run(read())

    def confirm_result(self, content_id: str) -> None:
        async def confirm() -> None:
            valkey = open_valkey(self.settings)
            await Claims(valkey).confirm(content_id, Role.CHAMPION, event_id(content_id, "classifier", []))
            await valkey.aclose()

        asyncio.run(confirm())


@pytest.fixture
def bench(embedded: Settings, samples: ModuleType) -> Bench:
    return Bench(embedded, samples)


@pytest.fixture
def start_keeper(embedded: Settings) -> Iterator[Callable[[], None]]:
    """Start a keeper that replays soon."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        environment = {
            **os.environ,
            "FETALMLOPS_HOME": str(embedded.home),
            "FETALMLOPS_HEALTH__PORT": "0",
            "FETALMLOPS_KEEPER__REPLAY_FIRST_S": "0.1",
            "FETALMLOPS_KEEPER__LEASE_S": "3",
        }
        started.append(subprocess.Popen([sys.executable, "-m", "fetalmlops.keeper"], env=environment))

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0


def test_a_stop_is_heeded_while_the_broker_is_silent(embedded: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **os.environ,
            "FETALMLOPS_HOME": str(embedded.home),
            "FETALMLOPS_HEALTH__PORT": "0",
            "FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}",
        }
        process = subprocess.Popen([sys.executable, "-m", "fetalmlops.keeper"], env=environment)
        try:
            silent.settimeout(60)
            silent.accept()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)


def test_every_parked_entry_of_an_instance_is_replayed(bench: Bench, start_keeper: Callable[[], None]) -> None:
    """Two contents of one SOP instance have the same key: the later entry does not hide the earlier one."""
    instance = bench.samples.RECEIVED.context.instance
    parked = [bench.entry(QuarantineKind.TRANSIENT, instance) for _ in range(2)]
    waiting = bench.entry(QuarantineKind.PERMANENT, instance)
    bench.quarantine(*parked, waiting)

    start_keeper()
    wait_until(lambda: len(bench.replays()) >= 2)

    assert {key: event.content_id for key, event in bench.replays().items()} == {
        entry.entry_id: entry.content_id for entry in parked
    }


def test_a_parked_event_is_replayed_with_the_release_that_it_cites(
    bench: Bench, start_keeper: Callable[[], None]
) -> None:
    entry = bench.entry(QuarantineKind.TRANSIENT, bench.samples.RECEIVED.context.instance)
    name = b"96c5a516-bafe-8a00-8879-fda4b0e55161/" + b"a" * 64
    bench.quarantine(msgspec.structs.replace(entry, headers=[*entry.headers, Header(name="ce_release", value=name)]))

    start_keeper()
    wait_until(lambda: entry.entry_id in bench.replays())

    assert bench.replayed_headers(entry.entry_id)["ce_release"] == name


def test_an_entry_whose_content_has_a_result_is_closed(bench: Bench, start_keeper: Callable[[], None]) -> None:
    ended, open_still = (bench.entry(QuarantineKind.PERMANENT, uuid.uuid4().hex) for _ in range(2))
    bench.quarantine(ended, open_still)
    assert ended.content_id
    bench.confirm_result(ended.content_id)

    start_keeper()
    wait_until(lambda: ended.entry_id in bench.resolutions())

    resolution = bench.resolutions()[ended.entry_id]
    assert (resolution.outcome, resolution.actor) == (QuarantineOutcome.CLASSIFIED, "keeper")
    assert open_still.entry_id not in bench.resolutions()
    assert bench.replays() == {}
