"""Garbage on the DICOM port, in datasets and on every topic: refused or quarantined with a reason, and nobody dies of it."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pynetdicom import AE

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope, Headers
from fetalmlops.domain.contracts.events import AlarmRaised, InstanceClassified
from fetalmlops.domain.contracts.topics import (
    ALARM_RAISED,
    EVENT_QUARANTINED,
    EVENT_QUARANTINED_PHI,
    FRAMES_NORMALIZED,
    INSTANCE_CLASSIFIED,
    INSTANCE_DEIDENTIFIED,
    INSTANCE_RECEIVED,
    MODEL_PROMOTED,
    QUARANTINE_RESOLVED,
    Topic,
)
from fetalmlops.domain.simulation import SCANNERS, InstanceSpec, Kind, Layout, Photometric, make_instance
from support.evidence import REASONS, Raw, Shared, command, ended, entries, fetch, pids, publish, records, send_raw
from support.evidence import wait_until as wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STUDY = 9300
CONNECTIONS = 300
MUTATIONS = 17
SYNTAXES = (
    (uid.ExplicitVRLittleEndian, Layout()),
    (uid.ImplicitVRLittleEndian, Layout()),
    (uid.ExplicitVRBigEndian, Layout()),
    (uid.DeflatedExplicitVRLittleEndian, Layout()),
    (uid.RLELossless, Layout()),
    (uid.JPEGBaseline8Bit, Layout(photometric=Photometric.YBR_FULL_422)),
    (uid.JPEGExtended12Bit, Layout()),
    (uid.JPEGLossless, Layout()),
    (uid.JPEGLosslessSV1, Layout()),
    (uid.JPEGLSLossless, Layout()),
    (uid.JPEGLSNearLossless, Layout()),
    (uid.JPEG2000Lossless, Layout()),
    (uid.JPEG2000, Layout()),
)


@pytest.fixture(autouse=True)
def unharmed(shared: Shared) -> Iterator[None]:
    """After each test every process is the one it was before, and a good instance gets its result."""
    before = pids(shared.deployment)
    yield
    good = _good(shared)
    (end,) = ended(shared.settings, {good.content_id(shared.settings)}, 60).values()
    assert isinstance(end, InstanceClassified)
    assert pids(shared.deployment) == before
    status = json.loads(command(shared.deployment.home, "status", "--json").stdout)
    assert {process["health"] for process in status["processes"]} == {"ready"}
    assert sum(process["restarts"] for process in status["processes"]) == 0


def _good(shared: Shared) -> Raw:
    """Send an instance with which nothing is wrong."""
    number = uuid.uuid4().int % 1_000_000
    good = Raw.of_part10(make_instance(InstanceSpec(study=STUDY, number=number, scanner=SCANNERS[2])).data)
    assert send_raw([good], shared.settings) == {good: 0x0000}
    return good


def test_random_bytes_on_the_dicom_port(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(STUDY)
    request = _association_request(shared)
    sendings = [_noise(rng, request, number) for number in range(CONNECTIONS)]
    with ThreadPoolExecutor(10) as pool:
        answers = Counter(pool.map(lambda data: _exchange(shared.settings.listener.port, data), sendings))
    with capsys.disabled():
        print(f"\n{CONNECTIONS} connections of noise; answers by PDU type (none: closed without one): {dict(answers)}")
    # An accepted association may only come of a request that is whole: of what was changed, little is.
    assert sum(answers.values()) == CONNECTIONS
    assert answers["hanging"] == 0


def _association_request(shared: Shared) -> bytes:
    """Return the A-ASSOCIATE-RQ of a real client, as it goes over the wire."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        entity = AE(ae_title="FETALSIM")
        entity.acse_timeout = 5
        entity.add_requested_context(uid.UltrasoundImageStorage)
        title = shared.settings.listener.ae_title
        waiting = pool.submit(entity.associate, "127.0.0.1", server.getsockname()[1], ae_title=title)
        connection, _ = server.accept()
        with connection:
            head = connection.recv(6, socket.MSG_WAITALL)
            request = head + connection.recv(int.from_bytes(head[2:6]), socket.MSG_WAITALL)
        waiting.result()
    return request


def _noise(rng: np.random.Generator, request: bytes, number: int) -> bytes:
    """Return random bytes, PDU heads before them, a changed or broken off request, or a good one before noise."""
    tail = rng.bytes(int(rng.integers(1, 4000)))
    kind = number % 5
    if kind == 0:
        return tail
    if kind == 1:
        return bytes([int(rng.integers(1, 8)), 0]) + len(tail).to_bytes(4) + tail
    if kind == 2:
        return request[: int(rng.integers(1, len(request)))]
    if kind == 3:
        changed = bytearray(request)
        for place in rng.integers(6, len(request), 8):
            changed[place] = int(rng.integers(256))
        return bytes(changed)
    return request + b"\x04\0" + len(tail).to_bytes(4) + tail


def _exchange(port: int, data: bytes) -> str:
    """Send bytes, then say no more; return the type of the first PDU that is answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        answer = b""
        with suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        try:
            while piece := connection.recv(4096):
                answer += piece
        except TimeoutError:
            return "hanging"
        except ConnectionError:
            pass
    return f"0x{answer[0]:02X}" if answer else "none"


def test_damaged_datasets(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    items = [item for number, syntax in enumerate(SYNTAXES) for item in _mutated(*syntax, number)]
    assert len(items) >= 200
    statuses = send_raw(items, shared.settings)
    known = {item: item.content_id(shared.settings) for item, status in statuses.items() if status in (0x0000, 0xC000)}
    found = ended(shared.settings, set(known.values()), 280)
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for item, status in statuses.items():
        end = found.get(known.get(item, ""))
        name = f"0x{status:04X}" if item not in known else getattr(end, "reason", None) or "result"
        table[uid.UID(item.transfer_syntax_uid).name][name] += 1
    with capsys.disabled():
        print(f"\n{len(items)} damaged instances")
        for syntax, ends in table.items():
            print(f"  {syntax[:52]:<54}{dict(ends)}")
    assert set(statuses.values()) <= {0x0000, 0xA900, 0xC000}
    assert set(found) == set(known.values()), "an instance that was kept ended nowhere"
    _check_reasons(end for end in found.values() if not isinstance(end, InstanceClassified))
    assert sum(status == 0x0000 for status in statuses.values()) >= 100


def _check_reasons(refused: Iterator[object]) -> None:
    found = {(entry.reason, entry.message) for entry in refused}
    assert {reason for reason, _ in found} <= REASONS
    assert all(message.startswith("Expected ") for _, message in found)


def _mutated(syntax: str, layout: Layout, number: int) -> Iterator[Raw]:
    spec = InstanceSpec(study=STUDY + 1, number=number + 1, scanner=SCANNERS[2], transfer_syntax=syntax, layout=layout)
    raw = Raw.of_part10(make_instance(spec).data)
    header = (
        raw.dataset.rfind(b"\xe0\x7f\x10\x00")
        if syntax != uid.ExplicitVRBigEndian
        else raw.dataset.rfind(b"\x7f\xe0\x00\x10")
    )
    header = header if header > 0 else len(raw.dataset) // 2
    rng = np.random.default_rng((STUDY, number))
    for turn in range(MUTATIONS):
        data = bytearray(raw.dataset)
        _MUTATIONS[turn % len(_MUTATIONS)](data, header, rng)
        yield Raw(raw.sop_class_uid, raw.sop_instance_uid, syntax, bytes(data), f"{syntax} {turn}")


def _cut_anywhere(data: bytearray, header: int, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data))) :]


def _cut_header(data: bytearray, header: int, rng: np.random.Generator) -> None:
    del data[int(rng.integers(header)) :]


def _flip_header(data: bytearray, header: int, rng: np.random.Generator) -> None:
    for place in rng.integers(header, size=int(rng.integers(1, 40))):
        data[place] = int(rng.integers(256))


def _flip_late_header(data: bytearray, header: int, rng: np.random.Generator) -> None:
    """Change what stands after the keys: more of these come as far as the decoders."""
    for place in rng.integers(header * 3 // 4, header, size=4):
        data[place] = int(rng.integers(256))


def _flip_pixels(data: bytearray, header: int, rng: np.random.Generator) -> None:
    for place in rng.integers(header, len(data), size=int(rng.integers(1, 60))):
        data[place] = int(rng.integers(256))


def _remove_piece(data: bytearray, header: int, rng: np.random.Generator) -> None:
    start = int(rng.integers(header, len(data)))
    del data[start : start + int(rng.integers(1, 5000))]


def _insert_piece(data: bytearray, header: int, rng: np.random.Generator) -> None:
    start = int(rng.integers(len(data)))
    data[start:start] = rng.bytes(int(rng.integers(1, 300)))


def _lie_about_length(data: bytearray, header: int, rng: np.random.Generator) -> None:
    data[header + 8 : header + 12] = rng.bytes(4)


_MUTATIONS: tuple[Callable[[bytearray, int, np.random.Generator], None], ...] = (
    _cut_anywhere, _flip_pixels, _flip_late_header, _cut_header, _flip_header, _remove_piece, _insert_piece, _lie_about_length,
)  # fmt: skip


@pytest.mark.parametrize("kind", [Kind.ULTRASOUND, Kind.ULTRASOUND_MULTIFRAME])
def test_an_image_without_frames_says_so(shared: Shared, kind: Kind) -> None:
    number = 50 + list(Kind).index(kind)
    data = make_instance(InstanceSpec(study=STUDY + 2, number=number, kind=kind, scanner=SCANNERS[2])).data
    ds = pydicom.dcmread(BytesIO(data))
    del ds.PixelData
    buffer = BytesIO()
    ds.save_as(buffer)
    item = Raw.of_part10(buffer.getvalue())
    assert send_raw([item], shared.settings) == {item: 0x0000}
    (end,) = ended(shared.settings, {item.content_id(shared.settings)}, 60).values()
    assert (end.reason, end.kind) == ("no-pixel-data", "permanent")
    assert end.message.startswith("Expected ")


@pytest.mark.parametrize(
    "topic", [INSTANCE_RECEIVED, INSTANCE_DEIDENTIFIED, FRAMES_NORMALIZED], ids=lambda topic: topic.name
)
def test_events_that_break_their_schema_are_quarantined(shared: Shared, topic: Topic) -> None:
    good = _record_of(shared, topic)
    event = json.loads(good.value)
    broken = dict(_broken(event, list(good.headers)))
    run = uuid.uuid4().hex[:8]
    publish(
        shared.settings,
        *((topic.name, f"{name} {run}".encode(), value, headers) for name, (value, headers, _) in broken.items()),
    )

    def reasons() -> dict[str, str]:
        found = {entry.key: entry for entry in entries(shared.settings) if entry.key.endswith(run)}
        assert all(entry.message.startswith("Expected ") for entry in found.values())
        assert all(entry.kind == "permanent" for entry in found.values())
        return {key.removesuffix(f" {run}"): entry.reason for key, entry in found.items()}

    expected = {name: reason for name, (_, _, reason) in broken.items()}
    wait(lambda: reasons() == expected, 60)
    assert reasons() == expected
    # What is new, on the other hand, is tolerated: unknown fields and unknown words.
    newer = {**event, "content_id": uuid.uuid4().hex, "a_new_field": {"a": [1]}}
    newer["context"] = {
        **event["context"],
        "purpose": "a new word",
        "lane": "a new word",
        "mode": "a new word",
        "new": 1,
    }
    headers = [(name, str(uuid.uuid4()).encode() if name == "ce_id" else value) for name, value in good.headers]
    publish(shared.settings, (topic.name, good.key, json.dumps(newer).encode(), [*headers, ("a-new-header", b"1")]))
    (end,) = ended(shared.settings, {newer["content_id"]}, 60).values()
    assert isinstance(end, InstanceClassified)
    assert (end.context.purpose, end.context.mode) == ("unknown", "unknown")


def _record_of(shared: Shared, topic: Topic) -> object:
    """Send a good instance; return its record on a topic."""
    content_id = _good(shared).content_id(shared.settings)
    ended(shared.settings, {content_id}, 60)
    return next(record for record in records(shared.settings, topic) if content_id.encode() in record.value)


def _broken(event: dict[str, object], headers: Headers) -> Iterator[tuple[str, tuple[bytes | None, Headers, str]]]:
    """Yield name, value, headers and expected reason of events that break their contract in one way each."""

    def changed(**changes: object) -> bytes:
        return json.dumps({**event, **changes}).encode()

    def without(*names: str) -> Headers:
        return [(name, value) for name, value in headers if name not in names]

    # Each value is another one: entries are told apart by what they hold.
    run = uuid.uuid4().hex
    yield "broken JSON", (changed(run=run)[:-7], headers, "schema")
    yield "not text", (b"\xff\xfe\x00" + run.encode(), headers, "schema")
    yield "another value", (f'["{run}"]'.encode(), headers, "schema")
    yield "deeply nested", (b"[" * 100_000 + run.encode(), headers, "schema")
    yield (
        "missing field",
        (json.dumps({"run": run, **{k: v for k, v in event.items() if k != "context"}}).encode(), headers, "schema"),
    )
    yield "wrong type", (changed(run=run, revision="today"), headers, "schema")
    yield "wrong pattern", (changed(run=run, content_id="../../etc"), headers, "schema")
    yield "null value", (None, headers, "schema")
    yield "empty value", (b"", headers, "schema")
    yield "no headers", (changed(run=f"{run}1"), [], "envelope")
    yield "no ce_id", (changed(run=f"{run}2"), without("ce_id"), "envelope")
    yield "broken ce_id", (changed(run=f"{run}3"), [*without("ce_id"), ("ce_id", b"7")], "envelope")
    yield "broken ce_time", (changed(run=f"{run}4"), [*without("ce_time"), ("ce_time", b"noon")], "envelope")
    yield "unknown ce_type", (changed(run=f"{run}5"), [*without("ce_type"), ("ce_type", b"a.new.type.v9")], "envelope")


@pytest.mark.parametrize(
    ("topic", "process"),
    [
        (MODEL_PROMOTED, "inference"),
        (EVENT_QUARANTINED, "keeper"),
        (EVENT_QUARANTINED_PHI, "keeper"),
        (QUARANTINE_RESOLVED, "keeper"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_bad_events_on_a_followed_topic_raise_an_alarm_and_change_nothing(
    shared: Shared, topic: Topic, process: str
) -> None:
    before = json.loads(fetch(shared.deployment, process, "/readyz"))
    identity = Envelope(id=str(uuid.uuid4()), type=topic.name, source="test", time_ms=0).to_headers()
    typed = [(name, b"a.new.type.v9" if name == "ce_type" else value) for name, value in identity]
    values = [(b"{", identity), (b"{}", identity), (None, identity), (b"{}", []), (b"{}", typed)]
    if topic is MODEL_PROMOTED:
        # One that is older than the promotion in force would be no news.
        now = Envelope(id=str(uuid.uuid4()), type=topic.name, source="test", time_ms=round(time.time() * 1000))
        values += [(_promotion_of_nothing(shared), now.to_headers())]
    known = {record.offset for record in _alarms_about(shared, topic)}
    publish(shared.settings, *((topic.name, b"demonstration", value, headers) for value, headers in values))
    assert wait(lambda: len({r.offset for r in _alarms_about(shared, topic)} - known) >= len(values), 60)
    for record in _alarms_about(shared, topic):
        alarm = decode(AlarmRaised, record.value)
        assert (alarm.process, alarm.severity) == (process, "critical")
        assert "Expected " in alarm.what
        assert alarm.remedy
    after = json.loads(fetch(shared.deployment, process, "/readyz"))
    assert after["ready"]
    assert after.get("bundle_digest") == before.get("bundle_digest")
    for arguments in (("quarantine", "list", "--json"), ("results", "--json")):
        assert command(shared.deployment.home, *arguments).returncode == 0


def _alarms_about(shared: Shared, topic: Topic) -> list[object]:
    return [record for record in records(shared.settings, ALARM_RAISED) if f"of {topic.name} ".encode() in record.value]


def _promotion_of_nothing(shared: Shared) -> bytes:
    """Return a promotion that keeps its schema, of a bundle that is nowhere."""
    event = json.loads(records(shared.settings, MODEL_PROMOTED)[0].value)
    event["manifest"]["uri"] = f"clean/bundles/{'0' * 64}/manifest.json"
    return json.dumps({**event, "bundle_digest": "0" * 64}).encode()


def test_bad_results_do_not_keep_the_good_ones_from_being_shown(shared: Shared) -> None:
    shown = command(shared.deployment.home, "results", "--json").stdout.splitlines()
    publish(shared.settings, *((INSTANCE_CLASSIFIED.name, b"x", value, []) for value in (b"{", None, b"\xff")))
    again = command(shared.deployment.home, "results", "--json")
    assert again.returncode == 0, again.stderr
    assert len(again.stdout.splitlines()) == len(shown) > 0
