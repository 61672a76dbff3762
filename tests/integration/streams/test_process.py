"""Process mode against a real broker and a real Valkey: every event ends in exactly one verdict."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from fetalmlops.domain.contracts import codec, topics
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import (
    EventQuarantined,
    InstanceDeidentified,
    InstanceReceived,
    QuarantineResolved,
)
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.errors import DeadlyError, ObjectMissingError, PermanentError, TransientError
from fetalmlops.platform.bus import Publisher, read_topic
from fetalmlops.platform.health import Health
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import ObjectStore, open_objects
from fetalmlops.platform.service import Service
from fetalmlops.platform.settings import Settings
from fetalmlops.platform.streams import Delivery, Outcome, Stage, process

Handler = Callable[[Delivery[InstanceReceived]], Awaitable[Outcome]]


class Bench:
    """Runs one stage on events of its own, beside those of other tests on the same topics."""

    def __init__(self, settings: Settings, samples: ModuleType) -> None:
        stream = settings.stream.model_copy(update={"deadline_s": 1.0})
        self.settings = settings.model_copy(update={"stream": stream})
        self.samples = samples
        self.name = f"stage-{uuid.uuid4().hex[:8]}"
        self.content_ids: list[str] = []
        self.calls: list[str] = []

    def event(self) -> InstanceReceived:
        content_id = uuid.uuid4().hex
        self.content_ids.append(content_id)
        return msgspec.structs.replace(
            self.samples.RECEIVED, content_id=content_id, origin=f"2026-01-01T00/{content_id}"
        )

    def envelope(self, event: InstanceReceived, **changes: Any) -> Envelope:
        identity = event_id(event.content_id, "listener", [])
        return Envelope(
            **{"id": identity, "type": topics.INSTANCE_RECEIVED.name, "source": "test", "time_ms": 0, **changes}
        )

    async def publish(self, *events: InstanceReceived, **changes: Any) -> None:
        publisher = Publisher(self.settings.kafka, Health("test"))
        for event in events:
            await publisher.publish(topics.INSTANCE_RECEIVED, event.content_id, self.envelope(event, **changes), event)
        await publisher.stop()

    async def run(
        self, handle: Handler, until: Callable[[], Awaitable[bool]], timeout: float = 40, *, looks_on: bool = False
    ) -> None:
        async def own(delivery: Delivery[InstanceReceived]) -> Outcome:
            if delivery.event.content_id not in self.content_ids:
                return Outcome(verdict="foreign")
            self.calls.append(delivery.event.content_id)
            return await handle(delivery)

        service = Service(self.name, self.settings, Health(self.name))
        stage = Stage(
            name=self.name, source=topics.INSTANCE_RECEIVED, event=InstanceReceived, handle=own, looks_on=looks_on
        )
        valkey = open_valkey(self.settings)
        running = asyncio.create_task(process(stage, service, self.objects, valkey))
        try:
            async with asyncio.timeout(timeout):
                while not await until():
                    assert not running.done(), running.exception()
                    await asyncio.sleep(0.1)
        finally:
            service.stopping.set()
            await asyncio.wait_for(running, 20)
            await valkey.aclose()

    @property
    def objects(self) -> ObjectStore:
        return open_objects(self.settings)

    async def entries(self, topic: topics.Topic = topics.EVENT_QUARANTINED_PHI) -> dict[str, EventQuarantined]:
        found = {}
        async for record in read_topic(self.settings.kafka, topic):
            entry = codec.decode(EventQuarantined, record.value)
            if entry.stage == self.name:
                found[entry.content_id or record.key.decode()] = entry
        return found

    async def quarantined(self, *keys: str) -> bool:
        return set(keys) <= set(await self.entries())

    async def resolved(self) -> list[QuarantineResolved]:
        read = read_topic(self.settings.kafka, topics.QUARANTINE_RESOLVED)
        found = [codec.decode(QuarantineResolved, record.value) async for record in read]
        return [item for item in found if item.actor == f"stage:{self.name}"]

    def done(self, event: InstanceReceived) -> bool:
        return self.objects.exists(f"clean/done/{event.origin}")


@pytest.fixture
def bench(embedded: Settings, samples: ModuleType) -> Bench:
    return Bench(embedded, samples)


def test_outcomes_are_published_before_the_event_ends(bench: Bench) -> None:
    events = [bench.event() for _ in range(40)]
    confirmed: list[str] = []

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        async def acknowledged() -> None:
            confirmed.append(delivery.event.content_id)

        return Outcome(ends=True, acknowledged=acknowledged)

    async def main() -> None:
        await bench.publish(*events)

        async def until() -> bool:
            return all(bench.done(event) for event in events)

        await bench.run(handle, until)
        # Everything is committed: a second worker of the group sees nothing of it again.
        bench.calls.clear()
        more = bench.event()
        await bench.publish(more)

        async def again() -> bool:
            return bench.done(more)

        await bench.run(handle, again)

    asyncio.run(main())
    assert bench.calls == [bench.content_ids[-1]]
    assert sorted(confirmed) == sorted(bench.content_ids)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (PermanentError("Expected x, got y", reason="undecodable"), "permanent", "undecodable"),
        (TransientError("Expected an answer, got none", dependency="inference"), "transient", "inference"),
        (ObjectMissingError("Expected an object, got none"), "permanent", "object-missing"),
        (ValueError("DOE^JANE"), "permanent", "unexpected"),
    ],
)
def test_what_cannot_be_handled_is_quarantined_whole(bench: Bench, error: Exception, kind: str, reason: str) -> None:
    bad, good = bench.event(), bench.event()

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        if delivery.event.content_id == bad.content_id:
            raise error
        return Outcome(ends=True)

    async def main() -> tuple[EventQuarantined, EventQuarantined]:
        await bench.publish(bad, good)

        async def until() -> bool:
            return bench.done(good) and await bench.quarantined(bad.content_id) and bench.done(bad)

        await bench.run(handle, until)
        return (await bench.entries())[bad.content_id], (await bench.entries(topics.EVENT_QUARANTINED))[bad.content_id]

    entry, twin = asyncio.run(main())
    assert (entry.kind, entry.reason) == (kind, reason)
    assert "DOE" not in entry.message
    assert codec.decode(InstanceReceived, entry.value) == bad
    assert {header.name for header in entry.headers} >= {"ce_id", "ce_type"}
    assert (twin.entry_id, twin.zone, twin.value, twin.message, twin.headers) == (entry.entry_id, "phi", None, "", [])


def test_a_deadline_parks_one_event_and_holds_up_nobody(bench: Bench) -> None:
    slow, others = bench.event(), [bench.event() for _ in range(20)]

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        if delivery.event.content_id == slow.content_id:
            await asyncio.sleep(60)
        return Outcome(ends=True)

    async def main() -> EventQuarantined:
        await bench.publish(slow, *others)

        async def until() -> bool:
            return all(bench.done(event) for event in others) and await bench.quarantined(slow.content_id)

        await bench.run(handle, until)
        return (await bench.entries())[slow.content_id]

    entry = asyncio.run(main())
    assert (entry.kind, entry.reason) == ("transient", "deadline")


def test_a_dependency_that_is_away_for_all_is_waited_for(bench: Bench) -> None:
    event = bench.event()

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        if len(bench.calls) < 4:
            msg = "Expected an answer, got none"
            raise TransientError(msg, dependency="inference", everyone=True)
        return Outcome(ends=True)

    async def main() -> None:
        await bench.publish(event)

        async def until() -> bool:
            return bench.done(event)

        await bench.run(handle, until)
        assert event.content_id not in await bench.entries()

    asyncio.run(main())
    assert len(bench.calls) == 4


def test_a_child_that_dies_three_times_condemns_its_event(bench: Bench) -> None:
    event = bench.event()

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        msg = "Expected the child to live, got its death"
        raise DeadlyError(msg)

    async def main() -> EventQuarantined:
        await bench.publish(event)

        async def until() -> bool:
            return await bench.quarantined(event.content_id)

        await bench.run(handle, until)
        return (await bench.entries())[event.content_id]

    entry = asyncio.run(main())
    assert (entry.kind, entry.attempts, len(bench.calls)) == ("deadly", 3, 3)


def test_replays_act_on_their_stage_only_and_close_their_entry(bench: Bench) -> None:
    mine, foreign, after = bench.event(), bench.event(), bench.event()
    entry = str(uuid.uuid4())

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        return Outcome(ends=True)

    async def main() -> list[QuarantineResolved]:
        await bench.publish(foreign, replay_of=str(uuid.uuid4()), replay_stage="another", replay_number=1)
        await bench.publish(mine, replay_of=entry, replay_stage=bench.name, replay_number=1)
        await bench.publish(after)

        async def until() -> bool:
            return bench.done(mine) and bench.done(after)

        await bench.run(handle, until)
        return await bench.resolved()

    resolved = asyncio.run(main())
    assert foreign.content_id not in bench.calls
    assert [item.entry_id for item in resolved] == [entry]


def test_a_stop_leaves_what_is_not_in_work_to_the_next(bench: Bench) -> None:
    events = [bench.event() for _ in range(150)]
    bench.settings = bench.settings.model_copy(
        update={"stream": bench.settings.stream.model_copy(update={"window": 2})}
    )

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        await asyncio.sleep(0.02)
        return Outcome(ends=True)

    async def main() -> None:
        await bench.publish(*events)

        async def some() -> bool:
            return bool(bench.calls)

        async def every() -> bool:
            return all(bench.done(event) for event in events)

        await bench.run(handle, some)
        left = [event for event in events if not bench.done(event)]
        assert left
        await bench.run(handle, every)

    asyncio.run(main())
    assert len(set(bench.calls)) == len(events)


def test_what_is_no_event_is_quarantined(bench: Bench) -> None:
    after = bench.event()
    name = f"garbage-{bench.name}"

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        return Outcome(ends=True)

    async def main() -> dict[str, EventQuarantined]:
        publisher = Publisher(bench.settings.kafka, Health("test"))
        good = bench.envelope(after).to_headers()
        other = bench.envelope(after, type=topics.INSTANCE_DEIDENTIFIED.name).to_headers()
        for number, (value, headers) in enumerate(
            [
                (b"\xff", good),
                (b"{}", good),
                (b"x", []),
                (None, good),
                (b"y" * 300_000, good),
                (codec.encode(after), other),
            ]
        ):
            await publisher.publish_raw(topics.INSTANCE_RECEIVED.name, f"{name}-{number}".encode(), value, headers)
        await publisher.stop()
        await bench.publish(after)

        async def until() -> bool:
            return bench.done(after) and await bench.quarantined(*(f"{name}-{number}" for number in range(6)))

        await bench.run(handle, until)
        return {key: entry for key, entry in (await bench.entries()).items() if key.startswith(name)}

    entries = asyncio.run(main())
    assert sorted(entry.reason for entry in entries.values()) == [
        "envelope",
        "envelope",
        "schema",
        "schema",
        "schema",
        "schema",
    ]
    long = entries[f"{name}-4"]
    assert long.value is None
    assert bench.objects.get(long.value_ref) == b"y" * 300_000


def test_clean_topics_have_no_twin(bench: Bench) -> None:
    assert topics.quarantine_topic(topics.INSTANCE_DEIDENTIFIED.zone) is topics.EVENT_QUARANTINED
    assert issubclass(topics.INSTANCE_DEIDENTIFIED.event, InstanceDeidentified)


def test_a_stage_writes_nothing_but_objects(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    bench.settings = bench.settings.model_copy(update={"home": home})
    event = bench.event()

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        return Outcome(ends=True)

    async def main() -> None:
        await bench.publish(event)

        async def until() -> bool:
            return bench.done(event)

        await bench.run(handle, until)

    asyncio.run(main())

    assert [path.name for path in home.iterdir()] == ["objects"]
    assert not list(here.iterdir())


def test_a_stage_that_looks_on_quarantines_nothing_and_ends_nothing(bench: Bench) -> None:
    events = [bench.event() for _ in range(4)]
    refusals = [
        PermanentError("Expected another event, got this; see the test", reason="pipeline"),
        TransientError("Expected an answer, got none; see the test", dependency="inference"),
        ObjectMissingError("Expected an object, got none; see the test"),
        RuntimeError("a defect"),
    ]

    async def handle(delivery: Delivery[InstanceReceived]) -> Outcome:
        raise refusals[bench.content_ids.index(delivery.event.content_id)]

    async def main() -> None:
        await bench.publish(*events)

        async def until() -> bool:
            if len(bench.calls) < len(events):
                return False
            await asyncio.sleep(2)  # for the commit of what was handed out last
            return True

        await bench.run(handle, until, looks_on=True)
        # All of them are committed, though none came to a verdict that anybody reads.
        bench.calls.clear()
        last = bench.event()
        refusals.append(refusals[0])
        await bench.publish(last)

        async def again() -> bool:
            return bool(bench.calls)

        await bench.run(handle, again, looks_on=True)
        assert bench.calls == [last.content_id]
        assert await bench.entries() == {}
        assert await bench.entries(topics.EVENT_QUARANTINED) == {}

    asyncio.run(main())
    assert not any(bench.done(event) for event in events)
