"""Events to record values and back, with errors that name the place but never the value."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import Event

__all__ = ["decode", "encode"]

_E = TypeVar("_E", bound="Event")
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(event: Event) -> bytes:
    """Return the JSON value of an event."""
    return _encoder.encode(event)


def decode(event_type: type[_E], value: bytes | None) -> _E:
    """Read an event.

    Unknown fields are ignored and unknown words of open vocabularies read as ``unknown``.

    Raises
    ------
    ContractError
        If the value is not JSON, or a field is missing or of another type. The text holds no part of the value.
    """
    if not value:
        msg = f"Expected {event_type.__name__} as JSON, got an empty value"
        raise ContractError(msg, reason="schema")
    try:
        return msgspec.json.decode(value, type=event_type)
    except msgspec.ValidationError as error:
        place = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "`$`"
        msg = f"Expected {event_type.__name__}, got a value that breaks its schema at {place[:80]}"
        raise ContractError(msg, reason="schema") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        msg = f"Expected {event_type.__name__} as JSON, got {len(value)} bytes that are not"
        raise ContractError(msg, reason="schema") from None
