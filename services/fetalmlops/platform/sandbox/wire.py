"""What parent and child say to each other: MessagePack messages, each behind its length.

No pickle: a child that malformed data has taken over must not be able to take over its parent.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from fetalmlops.domain import errors
from fetalmlops.domain.contracts.refusals import RefusalDetails

__all__ = [
    "EXIT_MEMORY",
    "HEAD",
    "Raised",
    "Ready",
    "Refused",
    "Reply",
    "Returned",
    "Unexpected",
    "decode_reply",
    "encode",
    "framed",
    "to_raised",
]

EXIT_MEMORY = 86
"""Exit code of a child that needed more memory than it may have."""

HEAD = struct.Struct("<Q")
"""Head of a message: its length in bytes."""

_SHORT_BYTES: Final = 1 << 20
_ERRORS: dict[str, type[errors.FetalMLOpsError]] = {name: getattr(errors, name) for name in errors.__all__}


class Ready(Struct, frozen=True, tag=True):
    """The child has imported its target and waits for calls."""


class Refused(Struct, frozen=True, tag=True):
    """The child could not start; no data was involved yet, so its error is told in full."""

    message: str


class Returned(Struct, frozen=True, tag=True):
    """The target returned `value`; `retire` asks for a fresh child after this one."""

    value: Raw
    retire: bool = False


class Raised(Struct, frozen=True, tag=True):
    """The target raised an error of the domain."""

    name: str
    message: str
    reason: str = ""
    details: RefusalDetails | None = None
    dependency: str = ""
    everyone: bool = False
    retire: bool = False

    def to_error(self) -> errors.FetalMLOpsError:
        """Return the error as the target raised it."""
        kind = _ERRORS.get(self.name, errors.FetalMLOpsError)
        if issubclass(kind, errors.TransientError):
            return errors.TransientError(self.message, dependency=self.dependency, everyone=self.everyone)
        error = kind(self.message)
        if isinstance(error, errors.PermanentError):
            error.reason, error.details = self.reason, self.details
        return error


class Unexpected(Struct, frozen=True, tag=True):
    """The target raised another error: its type and place, but not its text, which may quote data."""

    kind: str
    place: str
    retire: bool = False


Reply = Ready | Refused | Returned | Raised | Unexpected
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_encoder = msgspec.msgpack.Encoder()


def encode(message: Any) -> bytes:
    """Return the bytes of a message."""
    return _encoder.encode(message)


def framed(message: bytes) -> tuple[bytes, ...]:
    """Return what to send, in order: a short message in one piece, so that its reader wakes once, a long one uncopied."""
    head = HEAD.pack(len(message))
    return (head + message,) if len(message) <= _SHORT_BYTES else (head, message)


def decode_reply(data: bytes | bytearray) -> Reply:
    """Read what a child said.

    Raises
    ------
    msgspec.DecodeError
        If it is no reply.
    """
    return _replies.decode(data)


def to_raised(error: errors.FetalMLOpsError) -> Raised:
    """Return an error as a message: its own class where it is one of `fetalmlops.domain.errors`, else the nearest one."""
    name = next(kind.__name__ for kind in type(error).__mro__ if _ERRORS.get(kind.__name__) is kind)
    return Raised(
        name=name,
        message=str(error),
        reason=getattr(error, "reason", ""),
        details=getattr(error, "details", None),
        dependency=getattr(error, "dependency", ""),
        everyone=getattr(error, "everyone", False),
    )
