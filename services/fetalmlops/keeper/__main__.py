"""Run the keeper: ``python -m fetalmlops.keeper``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.events import EventQuarantined, QuarantineResolved
from fetalmlops.domain.contracts.topics import EVENT_QUARANTINED, EVENT_QUARANTINED_PHI, QUARANTINE_RESOLVED
from fetalmlops.domain.errors import TransientError
from fetalmlops.keeper.lease import Lease
from fetalmlops.keeper.replays import Replays
from fetalmlops.keeper.retention import delete_expired
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.service import run_service
from fetalmlops.platform.streams import follow
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service

_REPLAY_INTERVAL_S = 1.0
_GRACE_S = 5.0
_log = get_logger(__name__)


async def main(service: Service) -> None:
    """Keep the ledger and, while the lease is ours, replay and delete."""
    settings = service.settings
    objects = open_objects(settings)
    valkey = open_valkey(settings)
    publisher = Publisher(settings.kafka, service.health)
    replays = Replays(settings, publisher, objects, Claims(valkey))
    lease = Lease(valkey, settings.keeper.lease_s)
    async with asyncio.TaskGroup() as tasks:
        work = [
            follow(QUARANTINE_RESOLVED, QuarantineResolved, replays.take_resolution, service, publisher),
            # One instance may have several entries: none of them replaces another.
            follow(EVENT_QUARANTINED_PHI, EventQuarantined, replays.take_entry, service, publisher, every=True),
            follow(EVENT_QUARANTINED, EventQuarantined, replays.take_entry, service, publisher, every=True),
            _keep(service, lease, replays, objects),
        ]
        tasks.create_task(_end(service, [tasks.create_task(each) for each in work]))
    await publisher.stop()
    await valkey.aclose()


async def _end(service: Service, work: Sequence[asyncio.Task[None]]) -> None:
    """End what waits for a dependency at a stop: a replay or a deletion that did not happen is due at the next start."""
    await service.stopping.wait()
    await asyncio.wait(work, timeout=_GRACE_S)
    for task in work:
        task.cancel()


async def _keep(service: Service, lease: Lease, replays: Replays, objects: ObjectStore) -> None:
    # The topics' followers were begun before, and have said what they wait for.
    service.started()
    loop = asyncio.get_running_loop()
    next_retention = loop.time()
    while not service.stopping.is_set():
        try:
            active = await lease.hold()
            service.health.served_by("valkey")
        except TransientError as error:
            service.health.waiting_for(error.dependency)
            active = False
        service.health.note("active", active)
        if active and service.health.ready:
            await replays.close_classified()
            await replays.replay_due()
            if loop.time() >= next_retention:
                next_retention = loop.time() + service.settings.keeper.retention_interval_s
                await _delete(service, replays, objects)
        try:
            async with asyncio.timeout(_REPLAY_INTERVAL_S):
                await service.stopping.wait()
        except TimeoutError:
            continue
    try:
        await lease.release()
    except TransientError:
        _log.info("lease_left_to_expire")


async def _delete(service: Service, replays: Replays, objects: ObjectStore) -> None:
    try:
        count = await asyncio.to_thread(delete_expired, objects, service.settings.keeper, replays.ledger.origins())
    except TransientError as error:
        _log.warning("retention_interrupted", error=str(error))
    else:
        _log.info("retention", deleted=count)


if __name__ == "__main__":
    run_service("keeper", main)
