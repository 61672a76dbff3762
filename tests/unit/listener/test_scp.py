"""The storage provider as its peers see it, over real connections."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import FileMetaDataset
from pynetdicom import AE
from pynetdicom.presentation import build_context

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.errors import TransientError
from fetalmlops.listener import metrics
from fetalmlops.listener.contexts import TRANSFER_SYNTAXES, VERIFICATION
from fetalmlops.listener.part10 import read_head
from fetalmlops.listener.scp import StorageProvider
from support.wire import (
    ABORTED,
    ACCEPTED,
    DATA,
    ECHO,
    INSTANCE,
    STORE,
    ULTRASOUND,
    Sender,
    command,
    echo_command,
    fragment,
    message,
    pdu,
    request,
    store_command,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from pydicom.dataset import Dataset

    Make = Callable[..., Dataset]
    Encode = Callable[..., bytes]


def test_an_instance_is_durable_and_announced_before_its_answer(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    body = encode(dataset(PixelData=bytes(70_000)))
    sender.send(message(STORE, store_command(), body))
    answer = sender.response()
    assert (answer.CommandField, answer.MessageIDBeingRespondedTo, answer.Status) == (0x8001, 7, 0x0000)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (ULTRASOUND, INSTANCE)
    assert "ErrorComment" not in answer
    (uri,) = parts.files("phi/instances")
    assert parts.objects.read(uri).endswith(body)
    (announcement,) = parts.announced()
    assert announcement.topic == "dicom.instance.received.v1"
    assert parts.incoming() == []
    sender.release()


def test_the_object_says_how_it_came(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    assert sender.store(encode(dataset())) == 0x0000
    head = read_head(parts.objects.read(parts.files("phi/instances")[0]))
    came = head.provenance
    assert (head.sop_class_uid, head.sop_instance_uid) == (ULTRASOUND, INSTANCE)
    assert (came.peer, came.calling_ae_title, came.called_ae_title) == ("127.0.0.1", "FETALSIM", "FETALMLOPS")
    assert (came.source, came.project, came.key) == ("simulator", parts.key.project, parts.key.fingerprint)


def test_each_instance_begins_a_trace_that_goes_with_its_event(
    spans: InMemorySpanExporter, listener: Any, dataset: Make, encode: Encode
) -> None:
    sender, parts = listener.associate(), listener.parts
    assert [sender.store(encode(dataset(Manufacturer=name))) for name in ("One", "Two")] == [0x0000] * 2
    association, *stores = spans.get_finished_spans()
    assert [association.name, *(store.name for store in stores)] == [
        "dicom.associate",
        "dicom.c-store",
        "dicom.c-store",
    ]
    assert association.attributes["fetalmlops.source"] == "simulator"
    for store, announcement in zip(stores, parts.announced(), strict=True):
        assert store.parent is None
        assert [link.context.span_id for link in store.links] == [association.context.span_id]
        assert (store.attributes["dicom.status"], store.attributes["fetalmlops.resent"]) == ("0x0000", False)
        traceparent = Envelope.from_headers(announcement.headers).traceparent
        assert traceparent.split("-")[1:3] == [f"{store.context.trace_id:032x}", f"{store.context.span_id:016x}"]
        (head,) = (
            read_head(parts.objects.read(uri))
            for uri in parts.files("phi/instances")
            if uri.encode() in announcement.value
        )
        assert head.provenance.traceparent == traceparent


def test_the_span_of_an_instance_that_breaks_off_ends(spans: InMemorySpanExporter, listener: Any) -> None:
    sender = listener.associate()
    sender.send(message(STORE, store_command()) + pdu(DATA, fragment(STORE, b"ab", is_command=False, last=False)))
    sender.connection.close()
    listener.wait_until_quiet()
    assert [ended.name for ended in spans.get_finished_spans()] == ["dicom.associate", "dicom.c-store"]


def test_connections_are_counted_by_how_they_end(listener: Any) -> None:
    def count(outcome: str) -> float:
        return metrics.ASSOCIATIONS.labels(outcome)._value.get()

    def ended(outcome: str, end: Callable[[Any], None]) -> None:
        before, sender = count(outcome), listener.connect()
        end(sender)
        sender.connection.close()
        deadline = time.monotonic() + 30
        while count(outcome) == before:
            assert time.monotonic() < deadline, f"not counted as {outcome}"
            time.sleep(0.01)
        assert count(outcome) == before + 1

    ended("released", lambda sender: (sender.associate(), sender.release()))
    ended("aborted", lambda sender: (sender.associate(), sender.send(pdu(ABORTED, bytes(4)))))
    ended("aborted", lambda sender: sender.associate())
    ended("rejected", lambda sender: (sender.send(request(calling="STRANGER")), sender.receive()))
    ended("unreadable", lambda sender: sender.send(b"GET / HTTP/1.1\r\n\r\n"))
    assert metrics.ASSOCIATIONS_OPEN._value.get() == 0


def test_a_listener_may_be_reached_by_ipv6(make_parts: Callable[..., Any]) -> None:
    provider = StorageProvider(make_parts(host="::1").intake)
    provider.start()
    with socket.create_connection(("::1", provider.port), timeout=60) as connection:
        Sender(connection).associate()
        Sender(connection).release()
    assert provider.stop(60) == 0


def test_a_port_that_is_taken_is_named(make_parts: Callable[..., Any], listener: Any) -> None:
    with pytest.raises(TransientError, match="free the port"):
        StorageProvider(make_parts(port=listener.provider.port).intake)


def test_a_library_sends_its_datasets_as_ever(listener: Any, dataset: Make) -> None:
    entity = AE(ae_title="FETALSIM")
    entity.requested_contexts = [build_context(ULTRASOUND, TRANSFER_SYNTAXES[0])]
    assoc = entity.associate("127.0.0.1", listener.provider.port, ae_title="FETALMLOPS")
    assert assoc.is_established
    for number in range(3):
        instance = dataset(SOPInstanceUID=f"{INSTANCE}.{number}", PixelData=bytes(500_000))
        instance["PixelData"].VR = "OB"
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES[0]
        assert assoc.send_c_store(instance).Status == 0x0000
    assoc.release()
    assert assoc.is_released
    assert len(listener.parts.files("phi/instances")) == 3


def test_an_echo_is_answered(listener: Any) -> None:
    sender = listener.associate()
    for _ in range(3):
        sender.send(message(ECHO, echo_command()))
        assert sender.response().Status == 0x0000


def test_several_fragments_may_share_a_pdu_and_a_command_may_have_several(
    listener: Any, dataset: Make, encode: Encode
) -> None:
    sender, parts = listener.associate(), listener.parts
    commands, body = store_command(), encode(dataset())
    sender.send(
        pdu(
            DATA,
            fragment(STORE, commands[:20], is_command=True, last=False)
            + fragment(STORE, b"", is_command=True, last=False)
            + fragment(STORE, commands[20:], is_command=True)
            + fragment(STORE, body[:9], is_command=False, last=False)
            + fragment(STORE, body[9:], is_command=False, last=False)
            + fragment(STORE, b"", is_command=False),
        )
    )
    assert sender.response().Status == 0x0000
    assert parts.objects.read(parts.files("phi/instances")[0]).endswith(body)


def test_bytes_may_come_one_by_one(listener: Any, dataset: Make, encode: Encode) -> None:
    sender = listener.connect()
    for byte in request():
        sender.send(bytes([byte]))
    assert sender.receive()[0] == ACCEPTED
    for byte in message(STORE, store_command(), encode(dataset())):
        sender.send(bytes([byte]))
    assert sender.response().Status == 0x0000


def test_a_sender_may_be_ahead_of_its_answers(listener: Any, dataset: Make, encode: Encode) -> None:
    sender = listener.associate()
    sent = [message(STORE, store_command(), encode(dataset(Manufacturer=f"M{number}"))) for number in range(6)]
    sender.send(b"".join(sent))
    assert [sender.response().Status for _ in sent] == [0x0000] * 6
    assert len(listener.parts.files("phi/instances")) == 6


def test_a_resend_is_answered_with_success_and_kept_once(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    before = None
    for _ in range(3):
        assert sender.store(encode(dataset())) == 0x0000
        (uri,) = parts.files("phi/instances")
        before = before or parts.objects.read(uri)
        assert parts.objects.read(uri) == before
    assert len(parts.announced()) == 1


def test_the_same_instance_with_other_bytes_is_another_content(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    for manufacturer in ("One", "Two"):
        assert sender.store(encode(dataset(Manufacturer=manufacturer))) == 0x0000
    assert len(parts.files("phi/instances")) == len(parts.announced()) == 2
    assert len({item.key for item in parts.announced()}) == 1


def test_unreadable_keys_are_kept_once_in_quarantine(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    body = encode(dataset(StudyInstanceUID=None))
    for _ in range(2):
        assert sender.store(body) == 0xC000
    (uri,) = parts.files("phi")
    assert uri.startswith("phi/quarantine/")
    entry, twin, *again = parts.announced()
    assert (entry.topic, twin.topic) == ("operations.event.quarantined.phi.v1", "operations.event.quarantined.v1")
    assert [item.key for item in again] == [entry.key, twin.key]
    assert uri.encode() in entry.value
    assert uri.encode() not in twin.value
    assert b"CANARY" not in entry.value + twin.value


@pytest.mark.parametrize("retired", ["1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3"])
def test_classes_that_the_library_does_not_know_are_stored(
    listener: Any, dataset: Make, encode: Encode, retired: str
) -> None:
    sender = listener.connect()
    sender.send(request(contexts=[(VERIFICATION, TRANSFER_SYNTAXES[:1]), (retired, TRANSFER_SYNTAXES[:1])]))
    assert sender.receive()[0] == ACCEPTED
    assert sender.store(encode(dataset(SOPClassUID=retired)), sop_class=retired) == 0x0000


def test_announcements_that_do_not_fit_are_left_to_the_sweep(
    listen: Callable[..., Any], dataset: Make, encode: Encode
) -> None:
    listener = listen(capacity=2)
    sender, parts = listener.associate(), listener.parts
    for number in range(5):
        assert sender.store(encode(dataset(Manufacturer=f"M{number}"))) == 0x0000
    assert len(parts.files("phi/instances")) == 5
    assert len(parts.announced()) == 2
    assert parts.intake.announcer.failures == 3


def test_a_cancel_needs_no_answer(listener: Any) -> None:
    sender = listener.associate()
    sender.send(message(STORE, command(0x0FFF, MessageIDBeingRespondedTo=1)))
    sender.send(message(ECHO, echo_command()))
    assert sender.response().CommandField == 0x8030
