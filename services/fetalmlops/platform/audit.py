"""The audit: who did what to which subject and why, acknowledged by the broker before the deed."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.topics import AUDIT_RECORDED
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import AuditRecorded
    from fetalmlops.platform.settings import Settings

__all__ = ["record"]

_GIVE_UP_S = 15.0


async def record(settings: Settings, entry: AuditRecorded, *, give_up_s: float = _GIVE_UP_S) -> None:
    """Record an entry; the broker has acknowledged it when this returns.

    Parameters
    ----------
    settings
        The settings.
    entry
        What is done. Its reason is a person's text: it must name no patient.
    give_up_s
        Seconds after which the broker counts as away.

    Raises
    ------
    TransientError
        If the broker is away: the deed must not be done.
    """
    publisher = Publisher(settings.kafka, Health("audit"))
    envelope = Envelope(
        id=str(uuid.uuid4()),
        type=AUDIT_RECORDED.name,
        source=f"fetalmlops/{entry.process}",
        time_ms=round(time.time() * 1000),
        subject=entry.subject,
    )
    try:
        await publisher.publish(AUDIT_RECORDED, entry.process, envelope, entry, give_up_s=give_up_s)
    finally:
        await publisher.stop()
