"""What the keeper does with open quarantine entries: replay the parked ones with growing delay, close those that have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.events import QuarantineOutcome
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import FetalMLOpsError, TransientError
from fetalmlops.domain.operations.ledger import Ledger, Place
from fetalmlops.platform.quarantine import read_entry, replay, resolve
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.events import EventQuarantined, QuarantineResolved
    from fetalmlops.platform.bus import Publisher
    from fetalmlops.platform.claims import Claims
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings
    from fetalmlops.platform.streams import Delivery

__all__ = ["Replays"]

_log = get_logger(__name__)


class Replays:
    """Keeps the ledger and replays what is due.

    Parameters
    ----------
    settings
        Broker and delays.
    publisher
        Where replays go.
    objects
        For originals that lie in the store.
    claims
        Which contents have a result.
    """

    def __init__(self, settings: Settings, publisher: Publisher, objects: ObjectStore, claims: Claims) -> None:
        self._settings = settings
        self._publisher = publisher
        self._objects = objects
        self._claims = claims
        self.ledger = Ledger()

    async def take_entry(self, delivery: Delivery[EventQuarantined]) -> bool:
        """Take an entry into the ledger."""
        record = delivery.record
        place = Place(record.topic, record.partition, record.offset)
        self.ledger.add(delivery.event, place, delivery.envelope.time_ms)
        return True

    async def take_resolution(self, delivery: Delivery[QuarantineResolved]) -> bool:
        """Close an entry of the ledger."""
        self.ledger.close(delivery.event.entry_id)
        return True

    async def close_classified(self) -> int:
        """Close the entries whose content has a result by another way, such as a resend; return how many."""
        held = {item.entry.entry_id: item.entry.content_id for item in self.ledger.open() if item.entry.content_id}
        try:
            classified = await self._claims.published_among(sorted(set(held.values())), Role.CHAMPION)
        except TransientError as error:
            _log.warning("entries_not_compared", error=str(error))
            return 0
        ended = [entry_id for entry_id, content_id in held.items() if content_id in classified]
        for entry_id in ended:
            await resolve(entry_id, QuarantineOutcome.CLASSIFIED, "keeper", "", self._publisher, process="keeper")
            self.ledger.close(entry_id)
        return len(ended)

    async def replay_due(self) -> int:
        """Replay the parked events that are due; return how many."""
        now = round(time.time() * 1000)
        keeper = self._settings.keeper
        count = 0
        for item in list(self.ledger.due(now, keeper.replay_first_s, keeper.replay_last_s)):
            self.ledger.replayed(item.entry.entry_id, now)
            try:
                await replay(await read_entry(self._settings.kafka, item), self._publisher, self._objects)
            except FetalMLOpsError as error:
                _log.warning("replay_failed", entry=item.entry.entry_id, error=str(error))
                continue
            _log.info(
                "replayed", entry=item.entry.entry_id, stage=item.entry.stage, number=item.entry.replay_number + 1
            )
            count += 1
        return count
