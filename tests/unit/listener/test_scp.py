"""The storage provider as its peers see it, over real connections."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import FileMetaDataset
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_context

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.contracts.sources import Source
from fetalmlops.domain.errors import TransientError
from fetalmlops.listener import metrics
from fetalmlops.listener.contexts import TRANSFER_SYNTAXES, VERIFICATION, VERIFICATION_SYNTAXES, supported_contexts
from fetalmlops.listener.part10 import read_head
from fetalmlops.listener.scp import StorageProvider
from fetalmlops.listener.statuses import Status
from fetalmlops.platform.dicom.sources import add_source
from support.wire import (
    ABORTED,
    ACCEPTED,
    DATA,
    ECHO,
    INSTANCE,
    REJECTED,
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
    store_with_uid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from pydicom.dataset import Dataset

    Make = Callable[..., Dataset]
    Encode = Callable[..., bytes]

VIDEO = "1.2.840.10008.1.2.4.102"
FOREIGN_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def accepted(listener: Any, contexts: Sequence[tuple[str, Sequence[str]]], **more: Any) -> A_ASSOCIATE_AC:
    sender = listener.connect()
    sender.send(request(contexts=contexts, **more))
    kind, body = sender.receive()
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu(kind, body))
    sender.release()
    return answer


def results(answer: A_ASSOCIATE_AC) -> list[int]:
    """Return the results of the contexts, in the order in which they were proposed."""
    return [item.result for item in sorted(answer.presentation_context, key=lambda item: item.context_id)]


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


@pytest.mark.parametrize("values", [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {"SOPInstanceUID": "1.2.3"}])
def test_a_dataset_of_another_class_or_instance_is_a_mismatch(
    listener: Any, dataset: Make, encode: Encode, values: dict[str, str]
) -> None:
    sender, parts = listener.associate(), listener.parts
    assert sender.store(encode(dataset(**values))) == 0xA900
    assert parts.files("phi") == []
    assert parts.announced() == []


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


def test_a_request_for_another_class_than_the_context_is_refused(listener: Any, dataset: Make, encode: Encode) -> None:
    sender = listener.associate()
    assert sender.store(encode(dataset()), sop_class="1.2.840.10008.5.1.4.1.1.7") == 0x0122
    assert sender.store(encode(dataset())) == 0x0000


def test_a_malformed_instance_uid_is_refused(
    listener: Any, dataset: Make, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    sender = listener.associate()
    sender.send(message(STORE, store_with_uid(b"1.2.x\0"), encode(dataset())))
    answer = sender.response()
    assert (answer.Status, answer.ErrorComment) == (0x0117, Status.INVALID_INSTANCE.comment)
    assert listener.parts.files("phi") == []
    assert [record.name for record in caplog.records if "dicom" in record.name] == []


def test_a_source_that_is_struck_off_is_no_longer_authorised(listener: Any, dataset: Make, encode: Encode) -> None:
    sender, parts = listener.associate(), listener.parts
    assert sender.store(encode(dataset())) == 0x0000
    (parts.home / "sources.toml").write_text("")
    assert sender.store(encode(dataset(Manufacturer="Two"))) == 0x0124
    assert len(parts.files("phi/instances")) == 1


def test_without_room_the_sender_is_told_to_come_again(
    listen: Callable[..., Any], dataset: Make, encode: Encode
) -> None:
    listener = listen(reserve_bytes=1 << 60)
    assert listener.associate().store(encode(dataset(PixelData=bytes(300_000)))) == 0xA700
    assert listener.parts.files("phi") == []
    assert listener.parts.incoming() == []


def test_a_dataset_that_is_too_long_is_refused_and_not_kept(
    listen: Callable[..., Any], dataset: Make, encode: Encode
) -> None:
    listener = listen(max_instance_bytes=100_000)
    sender = listener.associate()
    assert sender.store(encode(dataset(PixelData=bytes(200_000)))) == 0xC001
    assert listener.parts.incoming() == []
    assert sender.store(encode(dataset())) == 0x0000


def test_an_instance_without_a_dataset_is_not_understood(listener: Any) -> None:
    sender = listener.associate()
    values = {"AffectedSOPClassUID": ULTRASOUND, "AffectedSOPInstanceUID": INSTANCE, "Priority": 0}
    sender.send(message(STORE, command(1, **values)))
    assert sender.response().Status == 0xC000


def test_a_defect_fails_one_instance(
    listener: Any, dataset: Make, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, objects = listener.associate(), listener.parts.objects
    with monkeypatch.context() as broken:
        broken.setattr(type(objects), "add_file", lambda *_, **__: 1 / 0)
        assert sender.store(encode(dataset())) == 0x0110
    assert sender.store(encode(dataset())) == 0x0000


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


@pytest.mark.parametrize(
    ("address", "titles", "expected"),
    [
        ("127.0.0.1", {"calling": "STRANGER"}, (1, 1, 3)),
        ("127.0.0.2", {}, (1, 1, 3)),
        ("127.0.0.1", {"called": "OTHER"}, (1, 1, 7)),
        ("127.0.0.1", {"application": "1.2.3"}, (1, 1, 2)),
    ],
    ids=["unknown title", "unknown address", "other called title", "other application"],
)
def test_who_is_not_served_is_rejected(
    listener: Any, address: str, titles: dict[str, Any], expected: tuple[int, ...]
) -> None:
    sender = listener.connect(address)
    sender.send(request(**titles))
    kind, body = sender.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, expected)
    assert sender.is_closed()


def test_another_protocol_version_is_rejected(listener: Any) -> None:
    sender = listener.connect()
    asked = request()
    sender.send(asked[:6] + b"\0\2" + asked[8:])
    kind, body = sender.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, (1, 2, 2))


def test_one_association_too_many_is_rejected_for_now(listen: Callable[..., Any]) -> None:
    listener = listen(max_associations=1)
    first, second = listener.associate(), listener.connect()
    second.send(request())
    kind, body = second.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, (2, 3, 2))
    first.release()
    listener.wait_until_quiet()
    listener.associate()


def test_a_called_title_may_be_left_unchecked(listen: Callable[..., Any]) -> None:
    sender = listen(check_called_ae_title=False).connect()
    sender.send(request(called="ANYTHING"))
    assert sender.receive()[0] == ACCEPTED


def test_titles_count_without_their_padding(listener: Any) -> None:
    sender = listener.connect()
    sender.send(request(calling=" FETALSIM"))
    assert sender.receive()[0] == ACCEPTED


def test_a_source_that_is_added_is_served_at_once(listener: Any) -> None:
    add_source(listener.parts.home / "sources.toml", Source(id="room-1", ae_title="SCANNER", site="north"))
    sender = listener.connect()
    sender.send(request(calling="SCANNER"))
    assert sender.receive()[0] == ACCEPTED


@pytest.mark.parametrize("sop_class", [*STORAGE_CLASSES, VERIFICATION])
def test_every_class_is_accepted_with_every_syntax(listener: Any, sop_class: str) -> None:
    syntaxes = VERIFICATION_SYNTAXES if sop_class == VERIFICATION else TRANSFER_SYNTAXES
    answer = accepted(listener, [(sop_class, [syntax]) for syntax in syntaxes])
    assert results(answer) == [0] * len(syntaxes)
    assert [item.transfer_syntax for item in answer.presentation_context] == list(syntaxes)


def test_video_and_foreign_classes_are_refused_one_by_one(listener: Any) -> None:
    answer = accepted(
        listener, [(ULTRASOUND, [VIDEO]), (FOREIGN_CLASS, TRANSFER_SYNTAXES), (ULTRASOUND, TRANSFER_SYNTAXES)]
    )
    assert results(answer) == [4, 3, 0]


def test_of_several_syntaxes_the_first_of_ours_is_chosen(listener: Any) -> None:
    answer = accepted(listener, [(ULTRASOUND, tuple(reversed(TRANSFER_SYNTAXES)))])
    assert answer.presentation_context[0].transfer_syntax == TRANSFER_SYNTAXES[0]


def test_128_contexts_fit(listener: Any) -> None:
    answer = accepted(listener, [(ULTRASOUND, TRANSFER_SYNTAXES)] * 128)
    assert results(answer) == [0] * 128


def test_the_answer_states_our_longest_pdu_and_name(listener: Any) -> None:
    information = accepted(listener, [(VERIFICATION, TRANSFER_SYNTAXES[:1])]).user_information
    assert information.maximum_length == 131072
    assert information.implementation_class_uid.startswith("2.25.")
    assert information.implementation_version_name.startswith("FETALMLOPS_")


def test_a_caller_that_wants_to_be_provider_stays_user(listener: Any) -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = ULTRASOUND, True, True
    answer = accepted(listener, [(ULTRASOUND, TRANSFER_SYNTAXES)], items=[role])
    assert answer.presentation_context[0].result == 0
    assert not answer.user_information.role_selection


def test_the_contexts_on_offer_are_unique() -> None:
    offered = [str(context.abstract_syntax) for context in supported_contexts()]
    assert sorted(offered) == sorted({VERIFICATION, *STORAGE_CLASSES})


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCESS])
def test_every_failure_says_why(status: Status) -> None:
    assert 0 < len(status.comment) <= 64
