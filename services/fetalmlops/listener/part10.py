"""The head of a Part 10 file (PS3.10 section 7.1): written in front of a dataset as it arrives, read back by the sweep.

Its private information (0002,0102) says how the instance came, so that its event and its trace can be rebuilt from the
object alone.
"""

from __future__ import annotations

import struct

import msgspec

from fetalmlops.domain.contracts.planes import Lane, Purpose
from fetalmlops.domain.errors import ContractError
from fetalmlops.listener.contexts import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

__all__ = ["MAX_HEAD_BYTES", "PRIVATE_CREATOR", "Head", "Provenance", "encode_head", "read_head"]

PRIVATE_CREATOR = "2.25.80237193256937604653505909261994144499"
"""Private Information Creator UID (0002,0100): says that (0002,0102) is a `Provenance` as JSON."""

MAX_HEAD_BYTES = 64 * 1024
"""More bytes than any head that we write."""

_PREFIX = bytes(128) + b"DICM"
_ELEMENT = struct.Struct("<HH2sH")
_LONG_ELEMENT = struct.Struct("<HH2sxxI")
_META_GROUP = 0x0002
_GROUP_LENGTH = 0x0000
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0002, 0x0003, 0x0010
_PRIVATE_CREATOR, _PRIVATE_INFORMATION = 0x0100, 0x0102


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance came: from where, when (milliseconds since the epoch), for which project, in which trace.

    `key` is the fingerprint of the project's key; `source`, `site`, `purpose` and `lane` are those of the sources table.
    """

    peer: str
    calling_ae_title: str
    called_ae_title: str
    arrival_ms: int
    project: str
    key: str
    source: str
    site: str
    purpose: Purpose = Purpose.CLINICAL
    lane: Lane = Lane.LIVE
    traceparent: str = ""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the file meta information says. `length` is that of preamble, prefix and file meta in bytes."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    provenance: Provenance
    length: int = 0


def encode_head(head: Head) -> bytes:
    """Return preamble, prefix and file meta information.

    Examples
    --------
    >>> came = Provenance(peer="192.0.2.7", calling_ae_title="SCANNER", called_ae_title="FETALMLOPS", arrival_ms=1,
    ...     project="demo", key="00" * 8, source="room-1", site="north")
    >>> head = Head(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2.840.10008.1.2", provenance=came)
    >>> read_head(encode_head(head) + b"the dataset").provenance == came
    True
    """
    came = head.provenance
    elements = (
        _long(0x0001, b"\0\1"),
        _short(_SOP_CLASS, b"UI", head.sop_class_uid),
        _short(_SOP_INSTANCE, b"UI", head.sop_instance_uid),
        _short(_TRANSFER_SYNTAX, b"UI", head.transfer_syntax_uid),
        _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _short(0x0013, b"SH", IMPLEMENTATION_VERSION),
        _short(0x0016, b"AE", came.calling_ae_title),
        _short(0x0017, b"AE", came.calling_ae_title),
        _short(0x0018, b"AE", came.called_ae_title),
        _short(_PRIVATE_CREATOR, b"UI", PRIVATE_CREATOR),
        _long(_PRIVATE_INFORMATION, msgspec.json.encode(came)),
    )
    body = b"".join(elements)
    return _PREFIX + _ELEMENT.pack(_META_GROUP, _GROUP_LENGTH, b"UL", 4) + struct.pack("<I", len(body)) + body


def read_head(data: bytes) -> Head:
    """Read the head that `encode_head` wrote.

    Parameters
    ----------
    data
        The first `MAX_HEAD_BYTES` of a file, or all of it.

    Raises
    ------
    ContractError
        If it is not one that we wrote (reason ``file-meta``).
    """
    try:
        values, length = _elements(data)
        if values[_PRIVATE_CREATOR].rstrip(b"\0").decode("ascii") != PRIVATE_CREATOR:
            raise _foreign()
        return Head(
            sop_class_uid=_uid(values[_SOP_CLASS]),
            sop_instance_uid=_uid(values[_SOP_INSTANCE]),
            transfer_syntax_uid=_uid(values[_TRANSFER_SYNTAX]),
            provenance=msgspec.json.decode(values[_PRIVATE_INFORMATION].rstrip(b"\0"), type=Provenance),
            length=length,
        )
    except (KeyError, struct.error, UnicodeDecodeError, msgspec.MsgspecError):
        raise _foreign() from None


def _elements(data: bytes) -> tuple[dict[int, bytes], int]:
    if not data.startswith(_PREFIX):
        raise _foreign()
    start = len(_PREFIX) + _ELEMENT.size + 4
    (body,) = struct.unpack_from("<I", data, start - 4)
    values: dict[int, bytes] = {}
    offset, end = start, start + body
    if end > len(data):
        raise _foreign()
    while offset < end:
        group, element, vr, length = _ELEMENT.unpack_from(data, offset)
        value_at = offset + _ELEMENT.size
        if vr == b"OB":
            group, element, vr, length = _LONG_ELEMENT.unpack_from(data, offset)
            value_at = offset + _LONG_ELEMENT.size
        offset = value_at + length
        if group != _META_GROUP or offset > end:
            raise _foreign()
        values[element] = data[value_at:offset]
    return values, end


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return _ELEMENT.pack(_META_GROUP, element, vr, len(value)) + value


def _long(element: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return _LONG_ELEMENT.pack(_META_GROUP, element, b"OB", len(value)) + value


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii")


def _foreign() -> ContractError:
    msg = "Expected a Part 10 file with our private information in its file meta, got another; it was not stored by a listener"
    return ContractError(msg, reason="file-meta")
