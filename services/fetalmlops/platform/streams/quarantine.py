"""Quarantine: an event that a stage cannot handle is kept whole, with the reason, and never lost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.events import EventQuarantined, Header, InstanceEvent, QuarantineKind
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import EVENT_QUARANTINED, Zone, quarantine_topic
from fetalmlops.platform.streams.stage import Emission

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.envelope import Envelope
    from fetalmlops.domain.contracts.events import Event, ObjectRef
    from fetalmlops.domain.contracts.refusals import RefusalDetails
    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.streams.stage import Record

__all__ = ["MAX_INLINE_BYTES", "Refusal", "entries_for", "keep_value"]

MAX_INLINE_BYTES = 256 * 1024
"""Longest value that a quarantine entry holds itself; longer ones become objects."""

_UNKNOWN_HOUR = "1970-01-01T00"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why an event is refused: `kind`, bounded `reason`, `message` without values, `details`, how often it was tried."""

    kind: QuarantineKind
    reason: str
    message: str
    attempts: int = 1
    details: RefusalDetails | None = None


def entry_id(stage: str, record: Record, envelope: Envelope | None, event: Event | None) -> str:
    """Return the id of a quarantine entry: the same for the same event, stage, versions and replay number."""
    number = str(envelope.replay_number) if envelope else "0"
    if isinstance(event, InstanceEvent) and envelope:
        return event_id(event.content_id, f"quarantine/{stage}", [envelope.id, number])
    digest = hashlib.sha256(record.value or b"").hexdigest()
    return event_id(digest[:32], f"quarantine/{stage}", [record.topic, number])


def keep_value(record: Record, zone: Zone, identity: str, objects: ObjectStore) -> ObjectRef | None:
    """Store a value that is too long to be held by its entry, and return its reference."""
    if record.value is None or len(record.value) <= MAX_INLINE_BYTES:
        return None
    return objects.put(f"{zone}/quarantine/{_UNKNOWN_HOUR}/{identity}", record.value, "application/octet-stream")


def entries_for(
    stage: str,
    source: Topic,
    record: Record,
    envelope: Envelope | None,
    event: Event | None,
    refusal: Refusal,
    value_ref: ObjectRef | None,
) -> tuple[Emission, ...]:
    """Return the quarantine entry of a refused event and, for the phi zone, its twin in the clean one.

    Parameters
    ----------
    stage
        Name of the stage that refuses.
    source
        Topic it came from.
    record
        The record, kept whole.
    envelope, event
        What could be read of it.
    refusal
        Why.
    value_ref
        Where the value lies, if it is too long.
    """
    identity = entry_id(stage, record, envelope, event)
    instance = event if isinstance(event, InstanceEvent) else None
    entry = EventQuarantined(
        entry_id=identity,
        zone=source.zone.value,
        stage=stage,
        kind=refusal.kind,
        reason=refusal.reason,
        message=refusal.message,
        details=refusal.details,
        attempts=refusal.attempts,
        replay_number=envelope.replay_number if envelope else 0,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode("utf-8", "replace"),
        content_id=instance.content_id if instance else None,
        origin=instance.origin if instance else None,
        context=instance.context if instance else None,
        value=None if value_ref else record.value,
        value_ref=value_ref,
        headers=[Header(name=name, value=value or b"") for name, value in record.headers],
    )
    subject = instance.context.instance if instance else ""
    key = entry.key or identity
    kept = Emission(topic=quarantine_topic(source.zone), key=key, id=identity, event=entry, subject=subject)
    if source.zone is not Zone.PHI:
        return (kept,)
    # A key that is not ours could hold anything: the twin goes under the pseudonym or the entry's id.
    twin = EventQuarantined(
        entry_id=identity,
        zone=source.zone.value,
        stage=stage,
        kind=refusal.kind,
        reason=refusal.reason,
        attempts=refusal.attempts,
        replay_number=entry.replay_number,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        content_id=entry.content_id,
        origin=entry.origin,
        context=entry.context,
    )
    return kept, Emission(topic=EVENT_QUARANTINED, key=subject or identity, id=identity, event=twin, subject=subject)
