"""What the listener says to the other stages: an instance is here, or one could not be taken in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.codec import encode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import EventQuarantined, InstanceReceived, QuarantineKind
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import EVENT_QUARANTINED, EVENT_QUARANTINED_PHI, INSTANCE_RECEIVED, Zone
from fetalmlops.listener.announcer import Announcement

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import Event, ObjectRef
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.contracts.topics import Topic
    from fetalmlops.domain.errors import PermanentError
    from fetalmlops.listener.keying import Keying
    from fetalmlops.listener.part10 import Head

__all__ = ["STAGE", "announce_received", "announce_refused"]

STAGE = "listener"
"""Name of this stage in event ids and quarantine entries."""


def announce_received(
    key: PseudonymKey, *, content_id: str, origin: str, ref: ObjectRef, head: Head, keying: Keying
) -> Announcement:
    """Return the announcement of a stored instance: the same content always gets the same id.

    Parameters
    ----------
    key
        The project's pseudonym key.
    content_id
        Content id.
    origin
        Arrival hour and object name.
    ref
        The stored Part 10 file.
    head
        Its file meta information.
    keying
        What its keying tags say.
    """
    event = InstanceReceived(
        content_id=content_id,
        revision=head.provenance.arrival_ms,
        origin=origin,
        context=keying.context,
        sop_class_uid=keying.sop_class_uid,
        object=ref,
        transfer_syntax_uid=head.transfer_syntax_uid,
    )
    identity = event_id(content_id, STAGE, [f"{key.project}/{key.fingerprint}"])
    subject = keying.context.instance
    return _announcement(INSTANCE_RECEIVED, subject, identity, event, subject, head.provenance.traceparent)


def announce_refused(
    error: PermanentError, *, content_id: str, ref: ObjectRef, traceparent: str, origin: str | None = None
) -> tuple[Announcement, Announcement]:
    """Return the quarantine entry of an object that no event can be made from, and its twin in the clean zone.

    There is no original event, so the entry names no topic and cannot be replayed.

    Parameters
    ----------
    error
        Why.
    content_id
        Content id.
    ref
        The kept object.
    traceparent
        Trace of its C-STORE.
    origin
        For an instance that was answered with success: arrival hour and object name.
    """
    identity = event_id(content_id, f"quarantine/{STAGE}", [error.reason])
    twin = EventQuarantined(
        entry_id=identity,
        zone=Zone.PHI.value,
        stage=STAGE,
        kind=QuarantineKind.PERMANENT,
        reason=error.reason,
        topic="",
        content_id=content_id,
        origin=origin,
    )
    entry = EventQuarantined(
        entry_id=identity,
        zone=Zone.PHI.value,
        stage=STAGE,
        kind=QuarantineKind.PERMANENT,
        reason=error.reason,
        message=str(error),
        topic="",
        content_id=content_id,
        origin=origin,
        value_ref=ref,
    )
    return (
        _announcement(EVENT_QUARANTINED_PHI, identity, identity, entry, "", traceparent),
        _announcement(EVENT_QUARANTINED, identity, identity, twin, "", traceparent),
    )


def _announcement(topic: Topic, key: str, identity: str, event: Event, subject: str, traceparent: str) -> Announcement:
    now_ms = round(time.time() * 1000)
    envelope = Envelope(
        id=identity,
        type=topic.name,
        source=f"fetalmlops/{STAGE}",
        time_ms=now_ms,
        subject=subject,
        traceparent=traceparent,
    )
    return Announcement(topic.name, key.encode(), encode(event), envelope.to_headers(), now_ms)
