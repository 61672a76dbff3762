"""DIMSE command sets (PS3.7 section 6.3, 9.3 and Annex E): read the requests, write the responses.

A command set is always Implicit VR Little Endian and a few dozen bytes long, so it is read and written here; a general
dataset library would take longer for it than for all else that is done with an instance.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from fetalmlops.domain.errors import ContractError

__all__ = [
    "CANCEL_REQUEST",
    "ECHO_REQUEST",
    "NO_DATASET",
    "STORE_REQUEST",
    "Command",
    "Status",
    "encode_response",
    "read_command",
]

STORE_REQUEST = 0x0001
"""Command Field of C-STORE-RQ."""

ECHO_REQUEST = 0x0030
"""Command Field of C-ECHO-RQ."""

CANCEL_REQUEST = 0x0FFF
"""Command Field of C-CANCEL-RQ."""

NO_DATASET = 0x0101
"""Command Data Set Type of a message without a dataset."""

_RESPONSE = 0x8000
_AFFECTED_SOP_CLASS = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED_TO = 0x0120
_DATASET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_AFFECTED_SOP_INSTANCE = 0x1000
_COMMENT_LENGTH = 64
_HEAD = struct.Struct("<HHI")


class Status(IntEnum):
    """The statuses that we answer with (PS3.4 table B.2-1, PS3.7 section 9.1.1.1.9)."""

    SUCCESS = 0x0000
    INVALID_INSTANCE = 0x0117
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    UNRECOGNISED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    DATASET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TOO_LONG = 0xC001

    @property
    def comment(self) -> str:
        """Error Comment (0000,0902): at most 64 characters."""
        return _COMMENTS.get(self, "")


_COMMENTS = {
    Status.INVALID_INSTANCE: "Affected SOP Instance UID is missing or malformed",
    Status.SOP_CLASS_NOT_SUPPORTED: "SOP class is not that of the presentation context",
    Status.NOT_AUTHORISED: "Source is not listed any more",
    Status.UNRECOGNISED_OPERATION: "Only C-ECHO and C-STORE are provided",
    Status.OUT_OF_RESOURCES: "Store is full or away, send again later",
    Status.DATASET_MISMATCH: "Dataset names another SOP class or instance than the request",
    Status.CANNOT_UNDERSTAND: "UIDs of instance, series or study are not readable",
    Status.TOO_LONG: "Dataset is longer than this system accepts",
}


@dataclass(frozen=True)
class Command:
    """A DIMSE request as far as it concerns us; UIDs without their padding."""

    field: int
    message_id: int
    dataset_follows: bool
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def read_command(data: bytes | bytearray) -> Command:
    """Read a command set.

    Raises
    ------
    ContractError
        If it is not one (reason ``command``).

    Examples
    --------
    >>> echo = bytes.fromhex("00000001020000003000 00001001020000000700 00000008020000000101")
    >>> read_command(echo)
    Command(field=48, message_id=7, dataset_follows=False, sop_class_uid='', sop_instance_uid='')
    """
    values = _elements(data)
    return Command(
        field=_number(values, _COMMAND_FIELD),
        message_id=_number(values, _MESSAGE_ID) if _MESSAGE_ID in values else 0,
        dataset_follows=_number(values, _DATASET_TYPE) != NO_DATASET,
        sop_class_uid=_uid(values, _AFFECTED_SOP_CLASS),
        sop_instance_uid=_uid(values, _AFFECTED_SOP_INSTANCE),
    )


def encode_response(request: Command, status: Status) -> bytes:
    """Return the command set of the response to a request.

    Parameters
    ----------
    request
        What is answered.
    status
        How it went.
    """
    elements = [
        (_AFFECTED_SOP_CLASS, _padded(request.sop_class_uid, b"\0")),
        (_COMMAND_FIELD, struct.pack("<H", request.field | _RESPONSE)),
        (_MESSAGE_ID_RESPONDED_TO, struct.pack("<H", request.message_id)),
        (_DATASET_TYPE, struct.pack("<H", NO_DATASET)),
        (_STATUS, struct.pack("<H", status)),
        (_ERROR_COMMENT, _padded(status.comment[:_COMMENT_LENGTH], b" ")),
        (_AFFECTED_SOP_INSTANCE, _padded(request.sop_instance_uid, b"\0")),
    ]
    body = b"".join(_HEAD.pack(0, element, len(value)) + value for element, value in elements if value)
    return _HEAD.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def _elements(data: bytes | bytearray) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if offset + _HEAD.size > len(data):
            raise _malformed("an element that breaks off")
        group, element, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if group != 0 or offset + length > len(data):
            raise _malformed("another group or a length beyond its end")
        values[element] = bytes(data[offset : offset + length])
        offset += length
    return values


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != struct.calcsize("<H"):
        raise _malformed(f"no number in (0000,{element:04X})")
    (number,) = struct.unpack("<H", value)
    return int(number)


def _uid(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")


def _padded(text: str, pad: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + pad * (len(value) % 2)


def _malformed(what: str) -> ContractError:
    return ContractError(f"Expected a command set of PS3.7 section 6.3, got {what}", reason="command")
