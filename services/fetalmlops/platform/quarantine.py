"""Acting on quarantine entries: read one whole, replay it, close it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import EventQuarantined, QuarantineOutcome, QuarantineResolved
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.topics import EVENT_QUARANTINED, EVENT_QUARANTINED_PHI, QUARANTINE_RESOLVED
from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.domain.operations.ledger import Ledger, Place
from fetalmlops.platform.bus import Publisher, read_events, read_record
from fetalmlops.platform.health import Health

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fetalmlops.domain.operations.ledger import OpenEntry
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["find_entry", "publishing", "read_entry", "read_ledger", "read_original", "replay", "resolve"]

_RELEASE_REFUSED = (Refusal.RELEASE_INVALID, Refusal.RELEASE_MISSING)


async def read_ledger(kafka: KafkaSettings) -> Ledger:
    """Read both quarantine topics and the resolutions to their present end.

    Raises
    ------
    TransientError
        If the broker does not answer.
    """
    ledger = Ledger()
    async for _, resolved in read_events(kafka, QUARANTINE_RESOLVED, QuarantineResolved):
        ledger.close(resolved.entry_id)
    for topic in (EVENT_QUARANTINED_PHI, EVENT_QUARANTINED):
        async for record, entry in read_events(kafka, topic, EventQuarantined):
            ledger.add(entry, Place(record.topic, record.partition, record.offset), record.timestamp)
    return ledger


async def find_entry(kafka: KafkaSettings, wanted: str) -> OpenEntry:
    """Return the one open entry whose id begins so.

    Raises
    ------
    FetalMLOpsError
        If there is none, or several.
    TransientError
        If the broker does not answer.
    """
    found = [item for item in (await read_ledger(kafka)).open() if item.entry.entry_id.startswith(wanted)]
    if len(found) != 1:
        msg = f"Expected {wanted} to begin one open entry, got {len(found)}; see fetalmlops quarantine list"
        raise FetalMLOpsError(msg)
    return found[0]


@asynccontextmanager
async def publishing(kafka: KafkaSettings) -> AsyncIterator[Publisher]:
    """Lend a publisher to a command."""
    publisher = Publisher(kafka, Health("cli"))
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def read_entry(kafka: KafkaSettings, item: OpenEntry) -> EventQuarantined:
    """Read an entry whole: with its value and headers.

    Raises
    ------
    FetalMLOpsError
        If its record has been deleted by retention.
    TransientError
        If the broker does not answer.
    """
    record = await read_record(kafka, item.place.topic, item.place.partition, item.place.offset)
    if record is None:
        msg = f"Expected entry {item.entry.entry_id} on {item.place.topic}, got none: retention deleted it; drop the entry"
        raise FetalMLOpsError(msg)
    return decode(EventQuarantined, record.value)


async def read_original(entry: EventQuarantined, objects: ObjectStore) -> bytes:
    """Return the value of the event that was refused.

    Raises
    ------
    FetalMLOpsError
        If the entry is a twin: the original is in the other zone.
    """
    value = entry.value
    if value is None and entry.value_ref is not None:
        value = await asyncio.to_thread(objects.get, entry.value_ref)
    if value is None:
        msg = f"Expected entry {entry.entry_id} to hold its original, got a twin; go where the phi zone can be read"
        raise FetalMLOpsError(msg)
    return value


async def replay(entry: EventQuarantined, publisher: Publisher, objects: ObjectStore, *, release: str = "") -> None:
    """Put the original back on its topic, for the one stage that refused it.

    Parameters
    ----------
    entry
        The whole entry.
    publisher
        Where it goes.
    objects
        For an original that lies in the store.
    release
        Name of the record of a person's release. Without one, a release that the original cites stays, unless it was refused.

    Raises
    ------
    FetalMLOpsError
        If the entry is a twin: the original is in the other zone.
    """
    value = await read_original(entry, objects)
    dropped = ("ce_replay", "ce_release") if release or entry.reason in _RELEASE_REFUSED else ("ce_replay",)
    headers = [(header.name, header.value) for header in entry.headers if not header.name.startswith(dropped)]
    headers += [
        ("ce_replayof", entry.entry_id.encode()),
        ("ce_replaystage", entry.stage.encode()),
        ("ce_replaynumber", str(entry.replay_number + 1).encode()),
    ]
    if release:
        headers.append(("ce_release", release.encode()))
    await publisher.publish_raw(entry.topic, entry.key.encode() or None, value, headers)


async def resolve(
    entry_id: str, outcome: QuarantineOutcome, actor: str, reason: str, publisher: Publisher, *, process: str
) -> None:
    """Close an entry without a replay. Who did it and why stays on record."""
    resolution = QuarantineResolved(entry_id=entry_id, outcome=outcome, actor=actor, reason=reason)
    envelope = Envelope(
        id=event_id(entry_id, "resolved", [outcome, actor]),
        type=QUARANTINE_RESOLVED.name,
        source=f"fetalmlops/{process}",
        time_ms=round(time.time() * 1000),
    )
    await publisher.publish(QUARANTINE_RESOLVED, entry_id, envelope, resolution)
