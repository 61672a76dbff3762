"""The store as an outbox: what is unfinished, and events made from objects alone."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import EventQuarantined, InstanceReceived
from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.errors import ObjectMissingError, PermanentError, SettingsError
from fetalmlops.listener import backlog as backlog_module
from fetalmlops.listener.backlog import Backlog
from fetalmlops.listener.reception import Reception, clear_incoming

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    from fetalmlops.listener.part10 import Head

Receive = "Callable[..., None]"


@pytest.fixture
def receive(parts: Any, head: Head, dataset: Callable[..., Dataset], encode: Callable[..., bytes]) -> Receive:
    """Receive an instance as an association does."""

    def receive_it(**values: Any) -> None:
        with closing(Reception(parts.intake, head)) as reception:
            reception.add(encode(dataset(**values)))
            assert reception.finish().status == 0

    return receive_it


@pytest.fixture
def backlog(parts: Any) -> Backlog:
    return Backlog(parts.objects, parts.key)


def finish(parts: Any, origin: str) -> None:
    parts.objects.put(f"clean/done/{origin}", b"", "text/plain", durable=False)


def test_an_instance_is_unfinished_until_its_marker_is_there(parts: Any, receive: Receive, backlog: Backlog) -> None:
    assert list(backlog.unfinished()) == []
    receive(Manufacturer="One")
    receive(Manufacturer="Two")
    first, second = backlog.unfinished()
    finish(parts, first.origin)
    assert list(backlog.unfinished()) == [second]
    assert backlog.is_done(first)
    assert not backlog.is_done(second)


def test_an_event_is_rebuilt_from_the_object_alone(parts: Any, receive: Receive, backlog: Backlog) -> None:
    receive()
    (original,) = parts.announced()
    (item,) = backlog.unfinished()
    rebuilt = backlog.announce(item)
    assert (rebuilt.topic, rebuilt.key) == (original.topic, original.key)
    assert decode(InstanceReceived, rebuilt.value) == decode(InstanceReceived, original.value)
    before, after = (Envelope.from_headers(entry.headers) for entry in (original, rebuilt))
    assert (before.id, before.traceparent, before.subject) == (after.id, after.traceparent, after.subject)
    assert before.traceparent


def test_the_event_says_what_is_in_the_store(parts: Any, receive: Receive, head: Head) -> None:
    receive()
    event = decode(InstanceReceived, parts.announced()[0].value)
    assert parts.objects.get(event.object)
    assert event.object.uri == f"phi/instances/{event.origin}.dcm"
    assert event.origin.endswith(f"/{event.content_id}")
    assert event.revision == head.provenance.arrival_ms
    assert event.transfer_syntax_uid == head.transfer_syntax_uid


def test_the_newest_hour_comes_first(parts: Any, receive: Receive, backlog: Backlog) -> None:
    receive()
    (now,) = backlog.unfinished()
    parts.objects.put("phi/instances/2020-01-01T00/" + "0" * 32 + ".dcm", b"x", "application/dicom")
    assert [item.hour for item in backlog.unfinished()] == [now.hour, "2020-01-01T00"]


def test_an_hour_that_is_closed_is_not_looked_at_again(parts: Any, backlog: Backlog) -> None:
    origin = "2020-01-01T00/" + "0" * 32
    parts.objects.put(f"phi/instances/{origin}.dcm", b"x", "application/dicom")
    finish(parts, origin)
    assert list(backlog.unfinished()) == []
    parts.objects.put(f"phi/instances/{origin[:-1]}1.dcm", b"x", "application/dicom")
    assert list(backlog.unfinished()) == []


def test_an_hour_is_not_closed_while_instances_may_still_come(
    parts: Any, receive: Receive, backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(Manufacturer="One")
    (item,) = backlog.unfinished()
    finish(parts, item.origin)
    assert list(backlog.unfinished()) == []
    receive(Manufacturer="Two")
    (late,) = backlog.unfinished()
    finish(parts, late.origin)
    later = backlog_module.time.time() + 3 * 3600 + 60
    monkeypatch.setattr(backlog_module.time, "time", lambda: later)
    assert list(backlog.unfinished()) == []
    receive(Manufacturer="Three")
    assert list(backlog.unfinished()) == []


def test_a_damaged_object_is_refused_and_its_entry_names_it(parts: Any, receive: Receive, backlog: Backlog) -> None:
    receive()
    (item,) = backlog.unfinished()
    path = parts.home / "objects" / item.uri
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\xff")
    with pytest.raises(PermanentError) as error:
        backlog.announce(item)
    entry, twin = backlog.refuse(item, error.value)
    kept, clean = (decode(EventQuarantined, record.value) for record in (entry, twin))
    assert kept.reason == clean.reason == "object-damaged"
    assert kept.entry_id == clean.entry_id
    assert kept.value_ref is not None
    assert parts.objects.get(kept.value_ref) == whole[:-1] + b"\xff"
    assert (clean.value_ref, clean.message, clean.zone) == (None, "", "phi")
    assert (kept.origin, clean.origin) == (item.origin, item.origin)
    # The instance has ended only once both entries are with the broker.
    for record in (entry, twin):
        assert not backlog.is_done(item)
        assert record.acknowledged is not None
        record.acknowledged()
    assert backlog.is_done(item)


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"CANARY^PATIENT-0001"])
def test_what_no_listener_stored_is_refused(parts: Any, backlog: Backlog, content: bytes) -> None:
    parts.objects.put("phi/instances/2020-01-01T00/" + "0" * 32 + ".dcm", content, "application/dicom")
    (item,) = backlog.unfinished()
    with pytest.raises(PermanentError) as error:
        backlog.announce(item)
    assert "CANARY" not in str(error.value)


@pytest.mark.parametrize("other", [PseudonymKey("other", bytes(range(32))), PseudonymKey("test", bytes(32))])
def test_another_project_s_instance_is_left_alone(parts: Any, receive: Receive, other: PseudonymKey) -> None:
    receive()
    foreign = Backlog(parts.objects, other)
    (item,) = foreign.unfinished()
    with pytest.raises(SettingsError):
        foreign.announce(item)


def test_an_object_that_is_gone_is_missing(parts: Any, receive: Receive, backlog: Backlog) -> None:
    receive()
    (item,) = backlog.unfinished()
    parts.objects.delete([item.uri])
    with pytest.raises(ObjectMissingError):
        backlog.announce(item)


def test_only_old_incoming_files_are_cleared(tmp_path: Path) -> None:
    import os

    old, new, other = (tmp_path / name for name in ("a.fetalmlops-incoming", "b.fetalmlops-incoming", "c.part"))
    for path in (old, new, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (0, 0))
    assert clear_incoming(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, other.name]
