"""The DICOM upper layer as bytes on a socket, well formed or not: a sender that no library keeps from misbehaving."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode
from pynetdicom.dsutils import encode as encode_commands
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

if TYPE_CHECKING:
    from collections.abc import Sequence

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
INSTANCE = "1.2.826.0.1.3680043.10.1"
ECHO, STORE = 1, 3
ACCEPTED, REJECTED, DATA, RELEASE, RELEASED, ABORTED = 2, 3, 4, 5, 6, 7


def request(
    calling: str = "FETALSIM",
    called: str = "FETALMLOPS",
    *,
    contexts: Sequence[tuple[str, Sequence[str]]] = ((VERIFICATION, [EXPLICIT]), (ULTRASOUND, [EXPLICIT])),
    application: str = "1.2.840.10008.3.1.1.1",
    items: Sequence[object] = (),
) -> bytes:
    """Return an A-ASSOCIATE-RQ."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = application
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    proposed = [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3"
    primitive.user_information = [length, implementation, *items]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def command(field: int, *, dataset: bool = False, **values: Any) -> bytes:
    """Return a command set."""
    message = Dataset()
    message.CommandField, message.MessageID = field, 7
    message.CommandDataSetType = 1 if dataset else 0x0101
    for name, value in values.items():
        setattr(message, name, value)
    return bytes(encode_commands(message, is_implicit_vr=True, is_little_endian=True) or b"")


def echo_command() -> bytes:
    """Return the command set of a C-ECHO request."""
    return command(0x30, AffectedSOPClassUID=VERIFICATION)


def store_command(instance: str = INSTANCE, sop_class: str = ULTRASOUND) -> bytes:
    """Return the command set of a C-STORE request."""
    return command(1, dataset=True, AffectedSOPClassUID=sop_class, AffectedSOPInstanceUID=instance, Priority=0)


def store_with_uid(uid: bytes) -> bytes:
    """Return the command set of a C-STORE request with any bytes as its Affected SOP Instance UID."""
    commands = command(1, dataset=True, AffectedSOPClassUID=ULTRASOUND, Priority=0)
    return commands + struct.pack("<HHI", 0, 0x1000, len(uid)) + uid


def fragment(context: int, data: bytes, *, is_command: bool, last: bool = True) -> bytes:
    """Return a presentation data value."""
    return struct.pack(">IBB", len(data) + 2, context, int(is_command) | int(last) << 1) + data


def pdu(kind: int, body: bytes) -> bytes:
    """Return a PDU."""
    return struct.pack(">BxI", kind, len(body)) + body


def message(context: int, commands: bytes, dataset: bytes | None = None, piece: int = 1000) -> bytes:
    """Return the PDUs of a message."""
    out = pdu(DATA, fragment(context, commands, is_command=True))
    for start in range(0, len(dataset or b""), piece):
        part = (dataset or b"")[start : start + piece]
        out += pdu(DATA, fragment(context, part, is_command=False, last=start + piece >= len(dataset or b"")))
    return out


@dataclass
class Sender:
    """A sender's end of a connection."""

    connection: socket.socket

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def receive(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU."""
        kind, length = struct.unpack(">BxI", self._read(6))
        return kind, self._read(length)

    def associate(self) -> None:
        self.send(request())
        assert self.receive()[0] == ACCEPTED

    def response(self) -> Dataset:
        kind, body = self.receive()
        assert kind == DATA
        return decode(BytesIO(body[6:]), is_implicit_vr=True, is_little_endian=True)

    def store(self, dataset: bytes, **values: str) -> int:
        """Send an instance; return the status that is answered."""
        self.send(message(STORE, store_command(**values), dataset))
        return int(self.response().Status)

    def release(self) -> None:
        self.send(pdu(RELEASE, bytes(4)))
        assert self.receive()[0] == RELEASED

    def aborted(self) -> tuple[int, int]:
        """Return source and reason of the A-ABORT that comes."""
        kind, body = self.receive()
        assert kind == ABORTED
        return body[2], body[3]

    def is_closed(self) -> bool:
        """Wait until the other end closes; return whether it did so without a word."""
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data
