"""A person works through the quarantine: the commands, a real anonymizer process, broker, Valkey and store."""

from __future__ import annotations

import asyncio
import getpass
import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pydicom
import pytest

from fetalmlops.domain.contracts.codec import decode, encode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import (
    AuditRecorded,
    EventQuarantined,
    InstanceDeidentified,
    QuarantineResolved,
)
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import (
    AUDIT_RECORDED,
    EVENT_QUARANTINED,
    EVENT_QUARANTINED_PHI,
    INSTANCE_DEIDENTIFIED,
    INSTANCE_RECEIVED,
    QUARANTINE_RESOLVED,
)
from fetalmlops.domain.deid.pixels.release import Release
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, make_instance
from fetalmlops.platform import quarantine as actions
from fetalmlops.platform.bus import Publisher, read_topic
from fetalmlops.platform.deid.releases import RELEASES, keep_release
from fetalmlops.platform.health import Health
from support.instances import GREY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from fetalmlops.domain.contracts.events import InstanceReceived
    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

COMMAND = str(Path(sys.executable).with_name("fetalmlops"))
PATIENCE_S = 90
AREA = "8,10,72,50"


class Bench:
    """Gives instances to an anonymizer process, acts on the quarantine by the command, and reads what comes of it."""

    def __init__(self, settings: Settings, receive: Callable[..., InstanceReceived], objects: ObjectStore) -> None:
        self.settings = settings
        self.objects = objects
        self._receive = receive

    def environment(self) -> dict[str, str]:
        return os.environ | {"FETALMLOPS_HOME": str(self.settings.home), "COLUMNS": "200"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *arguments], env=self.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{output}\n{errors}"
        return output + errors

    def release(self, entry: EventQuarantined, *arguments: str, code: int = 0) -> str:
        account = ("--account", "sonographer-7", "--reason", "a test")
        return self("quarantine", "release", entry.entry_id, *account, *arguments, code=code)

    def send(self, part10: bytes) -> InstanceReceived:
        event = self._receive(part10, source="room-1")
        envelope = Envelope(
            id=event_id(event.content_id, "test", []),
            type=INSTANCE_RECEIVED.name,
            source="test",
            time_ms=round(time.time() * 1000),
        )

        async def publish() -> None:
            publisher = Publisher(self.settings.kafka, Health("test"))
            await publisher.publish(INSTANCE_RECEIVED, event.context.instance, envelope, event)
            await publisher.stop()

        asyncio.run(publish())
        return event

    def read(self, topic: Topic) -> list[Any]:
        async def run() -> list[Any]:
            return [decode(topic.event, record.value) async for record in read_topic(self.settings.kafka, topic)]

        return asyncio.run(run())

    def wait_for(self, topic: Topic, content_id: str, number: int = 1) -> list[Any]:
        """Return the events of a content on a topic, once there are so many; one that was delivered twice counts once."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = {encode(event): event for event in self.read(topic) if event.content_id == content_id}
            if len(found) >= number:
                return list(found.values())
            assert time.monotonic() < end, f"{len(found)} of {number} on {topic.name}"
            time.sleep(0.3)

    def wait_until_resolved(self, entry_id: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while entry_id not in {event.entry_id for event in self.read(QUARANTINE_RESOLVED)}:
            assert time.monotonic() < end, "the entry stays open"
            time.sleep(0.3)

    def audited(self, entry: EventQuarantined) -> list[AuditRecorded]:
        return [event for event in self.read(AUDIT_RECORDED) if event.subject == entry.entry_id]

    def records(self, content_id: str) -> list[Any]:
        return [item for item in self.objects.walk(RELEASES) if content_id in item.uri]

    def replay_with(self, entry: EventQuarantined, name: str) -> None:
        async def run() -> None:
            async with actions.publishing(self.settings.kafka) as publisher:
                await actions.replay(entry, publisher, self.objects, release=name)

        asyncio.run(run())


@pytest.fixture(scope="module")
def anonymizer(embedded: Settings) -> Iterator[None]:
    environment = os.environ | {
        "FETALMLOPS_HOME": str(embedded.home),
        "FETALMLOPS_HEALTH__PORT": "0",
        "FETALMLOPS_ANONYMIZER__TEXT_DETECTION": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "fetalmlops.anonymizer"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    process.terminate()
    assert process.wait(40) == 0


@pytest.fixture
def bench(
    embedded: Settings, receive: Callable[..., InstanceReceived], objects: ObjectStore, anonymizer: None
) -> Bench:
    return Bench(embedded, receive, objects)


@pytest.fixture
def unproven(files: ModuleType) -> Any:
    sample = files.make_sample()
    del sample.attributes[0x0018_6011]
    return sample


def refused(bench: Bench, sample: Any) -> EventQuarantined:
    event = bench.send(sample.part10())
    (entry,) = bench.wait_for(EVENT_QUARANTINED_PHI, event.content_id)
    return entry  # type: ignore[no-any-return]


def test_an_entry_says_why_and_its_twin_does_not(bench: Bench, unproven: Any, files: ModuleType) -> None:
    entry = refused(bench, unproven)
    (twin,) = bench.wait_for(EVENT_QUARANTINED, str(entry.content_id))
    assert entry.details is not None
    assert (entry.details.code, entry.details.rows, entry.details.columns) == ("no-regions", 60, 80)
    assert (twin.reason, twin.message, twin.details) == ("pixels-unproven", "", None)
    beyond = files.make_sample()
    beyond.attributes[0x0018_6011] = ("SQ", [files.region(0, 0, 300, 20)])
    other = refused(bench, beyond)
    assert other.details is not None
    assert other.details.code == "beyond-image"

    listed = json.loads(bench("quarantine", "list", "--json", "--reason", "pixels-unproven"))
    assert {entry.entry_id, other.entry_id} <= {item["entry_id"] for item in listed}
    assert json.loads(bench("quarantine", "list", "--json", "--source", "nobody")) == []
    shown = bench("quarantine", "list", "--reason", "pixels-unproven")
    assert entry.entry_id in shown
    assert "no-regions" in shown
    assert "beyond-image" in bench("quarantine", "list", "--count")
    assert json.loads(bench("quarantine", "show", entry.entry_id))["details"]["code"] == "no-regions"


def test_a_refused_image_is_seen_released_and_resolved(bench: Bench, unproven: Any, tmp_path: Path) -> None:
    entry = refused(bench, unproven)
    content_id = str(entry.content_id)
    original = np.frombuffer(unproven.pixels, np.uint8).reshape(60, 80)

    picture = tmp_path / "seen.png"
    assert "Expected a reason" in bench("quarantine", "show", entry.entry_id, "--thumbnail", str(picture), code=2)
    assert not picture.exists()
    assert bench.audited(entry) == []
    bench("quarantine", "show", entry.entry_id, "--thumbnail", str(picture), "--reason", "to judge it")
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    seen = cv2.imread(str(picture))
    assert seen is not None
    assert len(np.unique(seen[40:100, 40:120, 0])) <= 16
    assert [(event.action, event.outcome) for event in bench.audited(entry)] == [("show-thumbnail", "granted")]

    preview = tmp_path / "kept.png"
    assert "nothing is released" in bench.release(entry, "--keep", AREA, "--dry-run", str(preview))
    kept = cv2.imread(str(preview))
    assert kept is not None
    assert np.array_equal(kept[40 + 11 : 40 + 49, 40 + 9 : 40 + 71, 0], original[11:49, 9:71])
    assert not kept[40:50, 40:120].any()
    assert bench.records(content_id) == []

    assert "released by record" in bench.release(entry, "--keep", AREA, "--mask", "8,10,72,14")
    (made,) = bench.wait_for(INSTANCE_DEIDENTIFIED, content_id)
    bench.wait_until_resolved(entry.entry_id)
    assert isinstance(made, InstanceDeidentified)
    report = made.deidentification
    assert (report.pixel_action, report.rectangles) == ("person_mask", [(8, 14, 72, 50)])
    clean = pydicom.dcmread(io.BytesIO(bench.objects.get(made.object))).pixel_array
    expected = np.zeros_like(original)
    expected[14:50, 8:72] = original[14:50, 8:72]
    assert np.array_equal(clean, expected)

    (record,) = bench.records(content_id)
    assert record.uri.endswith(f"/{content_id}/{entry.entry_id}/{report.release}")
    *_, last = bench.audited(entry)
    assert (last.action, last.outcome, last.actor) == ("release-pixels", "granted", "sonographer-7")
    assert (last.details["record"], last.details["keep"], last.details["mask"]) == (report.release, AREA, "8,10,72,14")
    assert [event.outcome for event in bench.audited(entry)] == ["granted", "dry-run", "granted"]
    assert b"CANARY" not in msgspec.json.encode([made, *bench.audited(entry)])
    assert "one open entry, got 0" in bench.release(entry, "--keep", AREA, code=1)


def test_a_drop_is_recorded_in_the_audit_before_the_entry_closes(bench: Bench, unproven: Any) -> None:
    entry = refused(bench, unproven)
    drop = ("quarantine", "drop", entry.entry_id, "--reason")
    assert "Expected a reason" in bench(*drop, " ", code=2)
    assert bench.audited(entry) == []
    bench(*drop, "not ours")
    bench.wait_until_resolved(entry.entry_id)
    recorded = [(event.action, event.outcome, event.reason, event.actor) for event in bench.audited(entry)]
    assert recorded == [("drop-entry", "granted", "not ours", getpass.getuser())]
    assert "one open entry, got 0" in bench(*drop, "not ours", code=1)
    assert len(bench.audited(entry)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 1, "Expected areas to keep or to blank"),
        (("--keep", "0,0,81,60"), 1, "within 80 x 60 pixels"),
        (("--keep", "0,0,10,60"), 1, "at least 16 pixels"),
        (("--keep", "40,10,8,50"), 1, "upper bounds exclusive"),
        (("--keep", "a,b,c,d"), 2, "four whole numbers"),
        (("--keep", "-1,0,70,50"), 2, "four whole numbers"),
        (("--keep", AREA, "--mask", AREA), 1, "something is left"),
        (("--mask", AREA), 1, "state what shows no identifier with --keep"),
        (("--keep", AREA, "--account", "Jane Doe"), 1, "account"),
        (("--keep", AREA, "--reason", " "), 2, "Expected a reason"),
        (("--keep", AREA, "--dry-run", "/nowhere/at/all.png"), 1, "Expected to write"),
    ],
)
def test_what_does_not_fit_the_image_changes_nothing(
    bench: Bench, shared_entry: EventQuarantined, arguments: tuple[str, ...], code: int, said: str
) -> None:
    words = " ".join(bench.release(shared_entry, *arguments, code=code).replace("│", " ").split())
    assert said in words
    assert bench.records(str(shared_entry.content_id)) == []


@pytest.fixture(scope="module")
def entries() -> dict[str, EventQuarantined]:
    return {}


@pytest.fixture
def shared_entry(bench: Bench, unproven: Any, entries: dict[str, EventQuarantined]) -> EventQuarantined:
    if "one" not in entries:
        entries["one"] = refused(bench, unproven)
    return entries["one"]


@pytest.mark.slow
def test_text_that_was_found_is_seen_filled_and_is_blanked(bench: Bench, tmp_path: Path) -> None:
    instance = make_instance(InstanceSpec(number=21, layout=GREY, burn_in=BurnIn.INSIDE))
    event = bench.send(instance.data)
    (entry,) = bench.wait_for(EVENT_QUARANTINED_PHI, event.content_id)
    (twin,) = bench.wait_for(EVENT_QUARANTINED, event.content_id)
    assert (entry.reason, twin.reason, twin.details) == ("text-found", "text-found", None)
    boxes = [text.box for text in entry.details.texts]
    assert boxes
    assert all(text.frame == 1 for text in entry.details.texts)
    assert b"CANARY" not in msgspec.json.encode(entry.details)
    assert "text-found" in bench("quarantine", "list", "--reason", "text-found")

    picture = tmp_path / "seen.png"
    bench("quarantine", "show", entry.entry_id, "--thumbnail", str(picture), "--reason", "to judge it")
    seen = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    assert seen is not None
    for x0, y0, x1, y1 in boxes:
        assert not seen[40 + y0 + 1 : 40 + y1 - 1, 40 + x0 + 1 : 40 + x1 - 1].any()

    masks = [(max(0, x0 - 8), max(0, y0 - 8), x1 + 8, y1 + 8) for x0, y0, x1, y1 in boxes]
    bench.release(entry, *(word for mask in masks for word in ("--mask", ",".join(map(str, mask)))))
    (made,) = bench.wait_for(INSTANCE_DEIDENTIFIED, event.content_id)
    report = made.deidentification
    assert (report.pixel_action, report.text_verdict, report.text_passes) == ("person_mask", "untrusted-checked", 1)
    clean = pydicom.dcmread(io.BytesIO(bench.objects.get(made.object))).pixel_array
    original = pydicom.dcmread(io.BytesIO(instance.data)).pixel_array
    shown = np.zeros_like(original, bool)
    for x0, y0, x1, y1 in entry.details.rectangles:
        shown[y0:y1, x0:x1] = True
    for x0, y0, x1, y1 in masks:
        shown[y0:y1, x0:x1] = False
    assert np.array_equal(clean, np.where(shown, original, 0))


def test_other_entries_cannot_be_released(bench: Bench, files: ModuleType) -> None:
    sample = files.make_sample()
    sample.attributes[0x0008_0016] = ("UI", b"1.2.840.10008.5.1.4.1.1.2")
    entry = refused(bench, sample)
    assert "refused for its pixels" in bench.release(entry, "--keep", AREA, code=1)


def test_nothing_is_released_while_the_broker_is_away(bench: Bench, shared_entry: EventQuarantined) -> None:
    environment = bench.environment() | {"FETALMLOPS_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    arguments = ["release", shared_entry.entry_id, "--keep", AREA, "--account", "a", "--reason", "b"]
    done = subprocess.run(
        [COMMAND, "quarantine", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "Expected the broker" in done.stderr
    assert bench.records(str(shared_entry.content_id)) == []


@pytest.mark.parametrize("flaw", ["missing", "changed", "of another content", "of another patient", "malformed"])
def test_a_record_that_does_not_hold_is_refused_and_a_new_release_mends_it(
    bench: Bench, unproven: Any, flaw: str
) -> None:
    entry = refused(bench, unproven)
    context, origin = entry.context, str(entry.origin)
    assert context is not None
    release = Release.state(
        project=context.project,
        patient="f" * 32 if flaw == "of another patient" else context.patient,
        content_id="e" * 32 if flaw == "of another content" else entry.content_id,
        entry_id=entry.entry_id,
        rows=60,
        columns=80,
        keep=((8, 10, 72, 50),),
        account="a",
        reason="b",
    )
    place = f"{RELEASES}/{origin.partition('/')[0]}/{entry.content_id}/{release.name}"
    if flaw == "changed":
        bench.objects.put(place, release.data.replace(b"[8,10,72,50]", b"[0,0,80,60]"), "application/json")
    elif flaw != "missing":
        bench.objects.put(place, release.data, "application/json")
    bench.replay_with(entry, "CANARY" if flaw == "malformed" else release.name)

    _, again = bench.wait_for(EVENT_QUARANTINED_PHI, str(entry.content_id), 2)
    bench.wait_until_resolved(entry.entry_id)
    assert again.reason == ("release-missing" if flaw == "missing" else "release-invalid")
    assert "release" in again.message
    assert "CANARY" not in again.message
    assert [event for event in bench.read(INSTANCE_DEIDENTIFIED) if event.content_id == entry.content_id] == []

    # A release that was refused is not tried again: without a new one the image is as unproven as it was.
    bench("quarantine", "replay", again.entry_id)
    *_, again = bench.wait_for(EVENT_QUARANTINED_PHI, str(entry.content_id), 3)
    assert again.reason == "pixels-unproven"

    bench.release(again, "--keep", AREA)
    (made,) = bench.wait_for(INSTANCE_DEIDENTIFIED, str(entry.content_id))
    bench.wait_until_resolved(again.entry_id)
    assert made.deidentification.rectangles == [(8, 10, 72, 50)]


def test_the_same_release_again_has_the_same_record_and_the_same_result(bench: Bench, unproven: Any) -> None:
    entry = refused(bench, unproven)
    content_id = str(entry.content_id)
    release = Release.state(
        project=entry.context.project,  # type: ignore[union-attr]
        patient=entry.context.patient,  # type: ignore[union-attr]
        content_id=content_id,
        entry_id=entry.entry_id,
        rows=60,
        columns=80,
        keep=((8, 10, 72, 50),),
        account="a",
        reason="b",
    )
    first, second = (keep_release(bench.objects, str(entry.origin), release) for _ in range(2))
    assert first == second
    for _ in range(2):
        bench.replay_with(entry, release.name)
    bench.wait_until_resolved(entry.entry_id)
    (made,) = bench.wait_for(INSTANCE_DEIDENTIFIED, content_id)
    end = time.monotonic() + PATIENCE_S
    while len(again := [event for event in bench.read(INSTANCE_DEIDENTIFIED) if event.content_id == content_id]) < 2:
        assert time.monotonic() < end, "the second replay has no outcome"
        time.sleep(0.3)
    assert all(event == made for event in again)
    assert len(bench.records(content_id)) == 1


def test_a_release_that_was_killed_behind_its_record_is_given_again(bench: Bench, unproven: Any) -> None:
    entry = refused(bench, unproven)
    content_id = str(entry.content_id)
    arguments = ["--keep", AREA, "--account", "sonographer-7", "--reason", "a test"]
    process = bench.start("quarantine", "release", entry.entry_id, *arguments)
    while process.poll() is None and not bench.records(content_id):  # the record whole, not its folder alone
        pass
    process.kill()
    process.communicate()
    assert len(bench.records(content_id)) == 1
    if [event for event in bench.read(AUDIT_RECORDED) if event.subject == entry.entry_id]:
        pytest.skip("the command was done before it could be killed: this machine gave us no time in between")
    resolved: list[QuarantineResolved] = bench.read(QUARANTINE_RESOLVED)
    assert entry.entry_id not in {event.entry_id for event in resolved}

    bench.release(entry, "--keep", AREA)
    (made,) = bench.wait_for(INSTANCE_DEIDENTIFIED, content_id)
    bench.wait_until_resolved(entry.entry_id)
    assert made.deidentification.pixel_action == "person_mask"
    assert len(bench.records(content_id)) == 1
