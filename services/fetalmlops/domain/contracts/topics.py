"""The topics: name, zone, key, retention, and the event each carries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fetalmlops.domain.contracts import events

__all__ = [
    "ALARM_RAISED",
    "AUDIT_RECORDED",
    "EVENT_QUARANTINED",
    "EVENT_QUARANTINED_PHI",
    "FRAMES_NORMALIZED",
    "INSTANCE_CLASSIFIED",
    "INSTANCE_DEIDENTIFIED",
    "INSTANCE_RECEIVED",
    "INSTANCE_SHADOWED",
    "MODEL_PROMOTED",
    "QUARANTINE_RESOLVED",
    "TOPICS",
    "Topic",
    "Zone",
    "quarantine_topic",
]

_DAY_MS = 86_400_000
_GIB = 1 << 30


class Zone(StrEnum):
    """Which credentials may read a topic or an object: ``phi`` is for the listener, the anonymizer and the keeper."""

    PHI = "phi"
    CLEAN = "clean"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic of the system.

    Parameters
    ----------
    name
        ``<domain>.<entity>.<event>.v<N>``; also the CloudEvents type of its events.
    event
        Type of its values (JSON).
    zone
        Who may read it.
    key
        What a record's key is.
    partitions
        Count at creation.
    retention_days
        Days that records stay; None keeps them.
    retention_bytes
        Bytes per partition that records may take; None sets no limit.
    """

    name: str
    event: type[events.Event]
    zone: Zone = Zone.CLEAN
    key: str
    partitions: int = 12
    retention_days: int | None
    retention_bytes: int | None = _GIB

    @property
    def retention_ms(self) -> int:
        """Kafka's ``retention.ms``: -1 keeps records."""
        return -1 if self.retention_days is None else self.retention_days * _DAY_MS


INSTANCE_RECEIVED = Topic(
    name="dicom.instance.received.v1",
    event=events.InstanceReceived,
    zone=Zone.PHI,
    key="instance pseudonym",
    retention_days=7,
)
INSTANCE_DEIDENTIFIED = Topic(
    name="dicom.instance.deidentified.v1", event=events.InstanceDeidentified, key="instance pseudonym", retention_days=7
)
FRAMES_NORMALIZED = Topic(
    name="imaging.frames.normalized.v1", event=events.FramesNormalized, key="instance pseudonym", retention_days=7
)
INSTANCE_CLASSIFIED = Topic(
    name="results.instance.classified.v1", event=events.InstanceClassified, key="study pseudonym", retention_days=90
)
INSTANCE_SHADOWED = Topic(
    name="results.instance.shadowed.v1", event=events.InstanceClassified, key="study pseudonym", retention_days=30
)
MODEL_PROMOTED = Topic(
    name="lifecycle.model.promoted.v1",
    event=events.ModelPromoted,
    key="model",
    partitions=1,
    retention_days=None,
    retention_bytes=None,
)
EVENT_QUARANTINED = Topic(
    name="operations.event.quarantined.v1",
    event=events.EventQuarantined,
    key="as the original, or the entry id",
    retention_days=90,
)
EVENT_QUARANTINED_PHI = Topic(
    name="operations.event.quarantined.phi.v1",
    event=events.EventQuarantined,
    zone=Zone.PHI,
    key="as the original, or the entry id",
    retention_days=90,
)
QUARANTINE_RESOLVED = Topic(
    name="operations.quarantine.resolved.v1", event=events.QuarantineResolved, key="entry id", retention_days=90
)
ALARM_RAISED = Topic(name="operations.alarm.raised.v1", event=events.AlarmRaised, key="process", retention_days=90)
AUDIT_RECORDED = Topic(
    name="audit.event.recorded.v1", event=events.AuditRecorded, key="process", retention_days=None, retention_bytes=None
)

TOPICS: tuple[Topic, ...] = (
    INSTANCE_RECEIVED,
    INSTANCE_DEIDENTIFIED,
    FRAMES_NORMALIZED,
    INSTANCE_CLASSIFIED,
    INSTANCE_SHADOWED,
    MODEL_PROMOTED,
    EVENT_QUARANTINED,
    EVENT_QUARANTINED_PHI,
    QUARANTINE_RESOLVED,
    ALARM_RAISED,
    AUDIT_RECORDED,
)
"""Every topic, in the order of the flow."""


def quarantine_topic(zone: Zone) -> Topic:
    """Return the quarantine topic of a zone."""
    return EVENT_QUARANTINED_PHI if zone is Zone.PHI else EVENT_QUARANTINED
