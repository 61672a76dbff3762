"""The envelope of an event: CloudEvents 1.0 attributes and W3C trace context as Kafka record headers (binary mode)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Envelope", "Headers"]

Headers = list[tuple[str, bytes]]
"""Kafka record headers."""

_REQUIRED = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """CloudEvents attributes of one event.

    Parameters
    ----------
    id
        UUID of the event: the same output has the same id, and the first one wins.
    type
        Event type, equal to the topic's name.
    source
        The process that made the event, such as ``fetalmlops/anonymizer``.
    time_ms
        Processing time, milliseconds since the epoch (UTC).
    subject
        Instance pseudonym or, for events of other things, the key.
    release
        The record of a person's release, as `fetalmlops.domain.deid.pixels.release.Release.name` says it; empty without one.
    traceparent, tracestate
        W3C trace context, empty where there is none.
    replay_of, replay_stage, replay_number
        For a replay: the quarantine entry, the one stage that is to act, and how many replays went before, plus one.
    """

    id: str
    type: str
    source: str
    time_ms: int
    subject: str = ""
    traceparent: str = ""
    tracestate: str = ""
    replay_of: str = ""
    replay_stage: str = ""
    replay_number: int = 0
    release: str = ""
    schema: str = field(default="application/json")

    def to_headers(self) -> Headers:
        """Return the record headers of this envelope."""
        moment = (
            datetime.fromtimestamp(self.time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        headers = {
            "ce_specversion": "1.0",
            "ce_id": self.id,
            "ce_type": self.type,
            "ce_source": self.source,
            "ce_time": moment,
            "ce_subject": self.subject,
            "content-type": self.schema,
            "traceparent": self.traceparent,
            "tracestate": self.tracestate,
            "ce_replayof": self.replay_of,
            "ce_replaystage": self.replay_stage,
            "ce_replaynumber": str(self.replay_number or ""),
            "ce_release": self.release,
        }
        return [(name, value.encode()) for name, value in headers.items() if value]

    def require(self, event_type: str) -> None:
        """Make sure that the event is of a type.

        Raises
        ------
        ContractError
            If it is of another one: another topic's event, or nobody's.
        """
        if self.type != event_type:
            msg = f"Expected ce_type {event_type}, got another; publish each event on the topic of its type"
            raise ContractError(msg, reason="envelope")

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes]]) -> Envelope:
        """Read the envelope from record headers.

        Raises
        ------
        ContractError
            If a required attribute is missing or malformed. Unknown headers are left alone.
        """
        values = {name.lower(): bytes(value or b"").decode("utf-8", "replace") for name, value in headers}
        missing = [name for name in _REQUIRED if not values.get(name)]
        if missing:
            msg = f"Expected the CloudEvents headers {', '.join(_REQUIRED)}, got none of {', '.join(missing)}"
            raise ContractError(msg, reason="envelope")
        if values["ce_specversion"] != "1.0" or not _UUID.match(values["ce_id"]):
            msg = "Expected ce_specversion 1.0 and a lower-case UUID as ce_id, got others"
            raise ContractError(msg, reason="envelope")
        traceparent = values.get("traceparent", "")
        number = values.get("ce_replaynumber", "")
        return cls(
            id=values["ce_id"],
            type=values["ce_type"],
            source=values["ce_source"],
            time_ms=_milliseconds(values["ce_time"]),
            subject=values.get("ce_subject", ""),
            traceparent=traceparent if _TRACEPARENT.match(traceparent) else "",
            tracestate=values.get("tracestate", ""),
            replay_of=values.get("ce_replayof", ""),
            replay_stage=values.get("ce_replaystage", ""),
            replay_number=int(number) if number.isdecimal() else 0,
            release=values.get("ce_release", ""),
            schema=values.get("content-type", "application/json"),
        )


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = "Expected ce_time as an RFC 3339 timestamp, got another text"
        raise ContractError(msg, reason="envelope") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
