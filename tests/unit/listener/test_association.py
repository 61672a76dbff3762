"""One association over a socket pair: the protocol, its violations, and what a sender is told."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode
from pynetdicom.dsutils import encode as encode_commands
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from fetalmlops.listener.association import Association, Ending
from fetalmlops.listener.channel import Channel
from fetalmlops.listener.contexts import TRANSFER_SYNTAXES, VERIFICATION
from fetalmlops.platform.sources import add_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
INSTANCE = "1.2.826.0.1.3680043.10.1"
ECHO, STORE = 1, 3
ACCEPTED, REJECTED, DATA, RELEASED, ABORTED = 2, 3, 4, 6, 7


def request(calling: str = "FETALSIM", called: str = "FETALMLOPS") -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    contexts = [build_context(VERIFICATION, TRANSFER_SYNTAXES[0]), build_context(ULTRASOUND, TRANSFER_SYNTAXES[0])]
    contexts[0].context_id, contexts[1].context_id = ECHO, STORE
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3"
    primitive.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def command(field: int, *, dataset: bool = False, **values: Any) -> bytes:
    message = Dataset()
    message.CommandField, message.MessageID = field, 7
    message.CommandDataSetType = 1 if dataset else 0x0101
    for name, value in values.items():
        setattr(message, name, value)
    return bytes(encode_commands(message, is_implicit_vr=True, is_little_endian=True) or b"")


def store_command(instance: str = INSTANCE, sop_class: str = ULTRASOUND) -> bytes:
    return command(1, dataset=True, AffectedSOPClassUID=sop_class, AffectedSOPInstanceUID=instance, Priority=0)


def fragment(context: int, data: bytes, *, is_command: bool, last: bool = True) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, int(is_command) | int(last) << 1) + data


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def message(context: int, commands: bytes, dataset: bytes | None = None, piece: int = 1000) -> bytes:
    out = pdu(DATA, fragment(context, commands, is_command=True))
    for start in range(0, len(dataset or b""), piece):
        part = (dataset or b"")[start : start + piece]
        out += pdu(DATA, fragment(context, part, is_command=False, last=start + piece >= len(dataset or b"")))
    return out


@dataclass
class Sender:
    """The sender's end of a connection, and how the association ended."""

    connection: socket.socket
    stopping: threading.Event
    endings: list[Ending] = field(default_factory=list)
    thread: threading.Thread | None = None

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._read(6))
        return kind, self._read(length)

    def associate(self) -> None:
        self.send(request())
        assert self.receive()[0] == ACCEPTED

    def status(self) -> Dataset:
        kind, body = self.receive()
        assert kind == DATA
        return decode(BytesIO(body[6:]), is_implicit_vr=True, is_little_endian=True)

    def store(self, dataset: bytes, **values: str) -> int:
        self.send(message(STORE, store_command(**values), dataset))
        return int(self.status().Status)

    def release(self) -> None:
        self.send(pdu(5, bytes(4)))
        assert self.receive()[0] == RELEASED

    def ended(self) -> Ending:
        self.connection.shutdown(socket.SHUT_WR)
        assert self.thread
        self.thread.join(10)
        return self.endings[0]

    def aborted(self) -> int:
        """Return the reason of the A-ABORT that comes."""
        kind, body = self.receive()
        assert kind == ABORTED
        assert self.ended() is Ending.ABORTED
        return body[3]

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data


@pytest.fixture
def connect(make_parts: Callable[..., Any]) -> Iterator[Callable[..., tuple[Sender, Any]]]:
    senders: list[Sender] = []

    def open_one(*, crowded: bool = False, address: str = "127.0.0.1", **settings: Any) -> tuple[Sender, Any]:
        parts = make_parts(**settings)
        ours, theirs = socket.socketpair()
        theirs.settimeout(10)
        sender = Sender(theirs, threading.Event())
        association = Association(Channel(ours, 5), address, parts.intake, sender.stopping, crowded=crowded)

        def serve() -> None:
            with ours:
                sender.endings.append(association.serve())

        sender.thread = threading.Thread(target=serve, daemon=True)
        sender.thread.start()
        senders.append(sender)
        return sender, parts

    yield open_one
    for sender in senders:
        sender.connection.close()
        assert sender.thread
        sender.thread.join(10)
        assert not sender.thread.is_alive()


Connect = "Callable[..., tuple[Sender, Any]]"


def test_an_instance_is_durable_and_announced_before_its_answer(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect()
    sender.associate()
    body = encode(dataset(PixelData=bytes(70_000)))
    assert sender.store(body) == 0x0000
    (uri,) = parts.files("phi/instances")
    assert parts.objects.read(uri).endswith(body)
    (announcement,) = parts.announced()
    assert announcement.topic == "dicom.instance.received.v1"
    assert parts.incoming() == []
    sender.release()
    assert sender.ended() is Ending.RELEASED


def test_the_answer_names_the_instance(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, _ = connect()
    sender.associate()
    sender.send(message(STORE, store_command(), encode(dataset())))
    answer = sender.status()
    assert (answer.CommandField, answer.MessageIDBeingRespondedTo, answer.Status) == (0x8001, 7, 0)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (ULTRASOUND, INSTANCE)


def test_an_echo_is_answered(connect: Connect) -> None:
    sender, _ = connect()
    sender.associate()
    for _ in range(3):
        sender.send(message(ECHO, command(0x30, AffectedSOPClassUID=VERIFICATION)))
        assert sender.status().Status == 0


def test_several_fragments_may_share_a_pdu_and_a_command_may_have_several(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect()
    sender.associate()
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
    assert sender.status().Status == 0
    assert parts.objects.read(parts.files("phi/instances")[0]).endswith(body)


def test_bytes_may_come_one_by_one(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, _ = connect()
    for byte in request():
        sender.send(bytes([byte]))
    assert sender.receive()[0] == ACCEPTED
    for byte in message(STORE, store_command(), encode(dataset())):
        sender.send(bytes([byte]))
    assert sender.status().Status == 0


def test_a_resend_is_answered_with_success_and_kept_once(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect()
    sender.associate()
    before = None
    for _ in range(3):
        assert sender.store(encode(dataset())) == 0x0000
        (uri,) = parts.files("phi/instances")
        before = before or parts.objects.read(uri)
        assert parts.objects.read(uri) == before
    assert len(parts.announced()) == 1


def test_the_same_instance_with_other_bytes_is_another_content(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect()
    sender.associate()
    for manufacturer in ("One", "Two"):
        assert sender.store(encode(dataset(Manufacturer=manufacturer))) == 0x0000
    assert len(parts.files("phi/instances")) == len(parts.announced()) == 2
    assert len({item.key for item in parts.announced()}) == 1


@pytest.mark.parametrize("values", [{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {"SOPInstanceUID": "1.2.3"}])
def test_a_dataset_of_another_class_or_instance_is_a_mismatch(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes], values: dict[str, str]
) -> None:
    sender, parts = connect()
    sender.associate()
    assert sender.store(encode(dataset(**values))) == 0xA900
    assert parts.files("phi") == []
    assert parts.announced() == []


def test_unreadable_keys_are_kept_once_in_quarantine(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect()
    sender.associate()
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


def test_a_request_for_another_class_than_the_context_is_refused(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, _ = connect()
    sender.associate()
    assert sender.store(encode(dataset()), sop_class="1.2.840.10008.5.1.4.1.1.7") == 0x0122
    assert sender.store(encode(dataset())) == 0x0000


@pytest.mark.parametrize("instance", ["", "1.2.x", "1" * 65])
def test_a_request_without_a_proper_instance_is_refused(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes], instance: str
) -> None:
    sender, _ = connect()
    sender.associate()
    raw = command(1, dataset=True, AffectedSOPClassUID=ULTRASOUND)
    element = instance.encode() + b"\0" * (len(instance) % 2)
    raw += struct.pack("<HHI", 0, 0x1000, len(element)) + element
    sender.send(message(STORE, raw, encode(dataset())))
    assert sender.status().Status == 0x0117


def test_a_source_that_is_struck_off_is_no_longer_authorised(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect()
    sender.associate()
    assert sender.store(encode(dataset())) == 0x0000
    (parts.home / "sources.toml").write_text("")
    assert sender.store(encode(dataset(Manufacturer="Two"))) == 0x0124
    assert len(parts.files("phi/instances")) == 1


def test_without_room_the_sender_is_told_to_come_again(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect(reserve_bytes=1 << 60)
    sender.associate()
    assert sender.store(encode(dataset(PixelData=bytes(300_000)))) == 0xA700
    assert parts.files("phi") == []
    assert parts.incoming() == []


def test_a_dataset_that_is_too_long_is_refused_and_not_kept(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect(max_instance_bytes=100_000)
    sender.associate()
    assert sender.store(encode(dataset(PixelData=bytes(200_000)))) == 0xC001
    assert parts.incoming() == []
    assert sender.store(encode(dataset())) == 0x0000


def test_announcements_that_do_not_fit_are_left_to_the_sweep(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, parts = connect(capacity=2)
    sender.associate()
    for number in range(5):
        assert sender.store(encode(dataset(Manufacturer=f"M{number}"))) == 0x0000
    assert len(parts.files("phi/instances")) == 5
    assert len(parts.announced()) == 2
    assert parts.intake.announcer.failures == 3


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0010, 0x0100, 0x0140])
def test_other_services_are_not_recognised(connect: Connect, field: int) -> None:
    sender, _ = connect()
    sender.associate()
    sender.send(message(STORE, command(field, dataset=True), b"identifier"))
    assert sender.status().Status == 0x0211


def test_a_cancel_needs_no_answer(connect: Connect) -> None:
    sender, _ = connect()
    sender.associate()
    sender.send(message(STORE, command(0x0FFF, MessageIDBeingRespondedTo=1)))
    sender.send(message(ECHO, command(0x30)))
    assert sender.status().CommandField == 0x8030


@pytest.mark.parametrize(
    ("settings", "titles", "expected"),
    [
        ({}, {"calling": "STRANGER"}, (1, 1, 3)),
        ({"address": "192.0.2.1"}, {}, (1, 1, 3)),
        ({}, {"called": "OTHER"}, (1, 1, 7)),
        ({"crowded": True}, {}, (2, 3, 2)),
    ],
    ids=["unknown title", "unknown address", "other called title", "too many"],
)
def test_who_is_not_served_is_rejected(
    connect: Connect, settings: dict[str, Any], titles: dict[str, str], expected: tuple[int, ...]
) -> None:
    sender, _ = connect(**settings)
    sender.send(request(**titles))
    kind, body = sender.receive()
    assert (kind, tuple(body[1:])) == (REJECTED, expected)
    assert sender.ended() is Ending.REJECTED


def test_a_called_title_may_be_left_unchecked(connect: Connect) -> None:
    sender, _ = connect(check_called_ae_title=False)
    sender.send(request(called="ANYTHING"))
    assert sender.receive()[0] == ACCEPTED


def test_a_source_that_is_added_is_served_at_once(connect: Connect) -> None:
    from fetalmlops.domain.contracts.sources import Source

    sender, parts = connect()
    add_source(parts.home / "sources.toml", Source(id="room-1", ae_title="SCANNER", site="north"))
    sender.send(request(calling="SCANNER"))
    assert sender.receive()[0] == ACCEPTED


UNRECOGNISED, UNEXPECTED, INVALID = 1, 2, 6


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", UNRECOGNISED),
        (b"\0" * 100, UNRECOGNISED),
        (pdu(DATA, fragment(ECHO, b"x", is_command=True)), UNEXPECTED),
        (pdu(5, bytes(4)), UNEXPECTED),
        (struct.pack(">BxI", 1, 0xFFFFFFFF), INVALID),
        (pdu(1, b"\xff" * 200), INVALID),
        (pdu(1, b""), INVALID),
    ],
    ids=["http", "zeros", "data first", "release first", "endless request", "garbage request", "empty request"],
)
def test_what_is_no_request_is_aborted(connect: Connect, data: bytes, reason: int) -> None:
    sender, _ = connect()
    sender.send(data)
    assert sender.aborted() == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (request(), UNEXPECTED),
        (struct.pack(">BxI", 0xD5, 10), UNRECOGNISED),
        (struct.pack(">BxI", DATA, 0xFFFFFFFF), INVALID),
        (struct.pack(">BxI", 5, 0xFFFFFFFF), INVALID),
        (pdu(DATA, struct.pack(">IBB", 0xFFFFFFFF, ECHO, 3)), INVALID),
        (pdu(DATA, struct.pack(">IBB", 1, ECHO, 3)), INVALID),
        (pdu(DATA, fragment(ECHO, b"\xff" * 20, is_command=True)), 0),
        (pdu(DATA, fragment(99, command(0x30), is_command=True)), 0),
        (pdu(DATA, fragment(STORE, b"dataset", is_command=False)), 0),
        (pdu(DATA, fragment(STORE, store_command(), is_command=True) * 2), 0),
        (message(STORE, store_command()) + pdu(DATA, fragment(ECHO, b"x", is_command=False)), 0),
        (pdu(DATA, fragment(ECHO, bytes(60_000), is_command=True, last=False)) * 2, 0),
        (message(STORE, store_command()) + pdu(5, bytes(4)), None),
        (message(STORE, store_command()) + pdu(7, bytes(4)), None),
    ],
    ids=[
        "second request",
        "unknown type",
        "endless pdu",
        "endless release",
        "endless fragment",
        "short fragment",
        "garbage command",
        "unknown context",
        "dataset first",
        "command for dataset",
        "dataset in other context",
        "endless command",
        "release within a message",
        "abort within a message",
    ],
)
def test_a_broken_protocol_ends_the_association_and_keeps_nothing(
    connect: Connect, data: bytes, reason: int | None
) -> None:
    sender, parts = connect()
    sender.associate()
    sender.send(data)
    if reason is None:
        assert sender.ended() in {Ending.RELEASED, Ending.ABORTED_BY_PEER}
    else:
        assert sender.aborted() == reason
    assert parts.files("phi") == []
    assert parts.incoming() == []


def test_a_sender_that_vanishes_leaves_nothing_behind(connect: Connect) -> None:
    sender, parts = connect()
    sender.associate()
    sender.send(message(STORE, store_command()) + struct.pack(">BxIIBB", DATA, 5000, 4996, STORE, 0) + bytes(100))
    assert sender.ended() is Ending.LOST
    assert parts.files("phi") == []
    assert parts.incoming() == []


def test_a_silent_sender_is_let_go(connect: Connect) -> None:
    sender, _ = connect(network_timeout_s=0.6)
    sender.associate()
    assert sender.aborted() == 0


def test_a_sender_that_never_asks_is_let_go(connect: Connect) -> None:
    sender, _ = connect(acse_timeout_s=0.2)
    assert sender.thread
    sender.thread.join(5)
    assert sender.ended() is Ending.LOST


def test_a_message_that_takes_too_long_is_given_up(connect: Connect) -> None:
    sender, parts = connect(dimse_timeout_s=0.01)
    sender.associate()
    piece = pdu(DATA, fragment(STORE, b"\0" * 8, is_command=False, last=False))
    sender.send(message(STORE, store_command()) + piece)
    threading.Event().wait(0.2)
    sender.send(piece)
    assert sender.aborted() == 0
    assert parts.incoming() == []


def test_while_stopping_what_has_begun_is_finished_and_who_is_idle_is_let_go(
    connect: Connect, dataset: Callable[..., Dataset], encode: Callable[..., bytes]
) -> None:
    sender, _ = connect()
    sender.associate()
    sender.stopping.set()
    assert sender.store(encode(dataset())) == 0x0000
    assert sender.store(encode(dataset(Manufacturer="Two"))) == 0x0000
    assert sender.aborted() == 0
