"""Deleting by lifetime. The keeper deletes, nobody else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fetalmlops.domain.operations.retention import CLEAN_CLASSES, Lifetimes, hour_age_days

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import KeeperSettings

__all__ = ["delete_expired", "expired"]

_BATCH = 1000  # objects whose deletion is made durable together


def expired(objects: ObjectStore, settings: KeeperSettings, held: Collection[str], now_ms: int) -> Iterator[str]:
    """Yield the URIs of the objects whose lifetime is over.

    Parameters
    ----------
    objects
        The store.
    settings
        Lifetimes.
    held
        Origins that open quarantine entries name: their phi instances and clean objects stay.
    now_ms
        Now, milliseconds since the epoch.
    """
    lifetimes = Lifetimes(phi_days=settings.phi_days, clean_days=settings.clean_days)
    yield from _expired_phi(objects, lifetimes, held, now_ms)
    held_hours = {origin.partition("/")[0] for origin in held}
    for name in CLEAN_CLASSES:
        for hour in objects.folders(f"clean/{name}"):
            if hour_age_days(hour, now_ms) > settings.clean_days and hour not in held_hours:
                for item in objects.walk(f"clean/{name}/{hour}"):
                    if lifetimes.clean_expired(item.modified_ms, now_ms):
                        yield item.uri


def delete_expired(objects: ObjectStore, settings: KeeperSettings, held: Collection[str]) -> int:
    """Delete what `expired` yields; return how many objects that were."""
    uris = list(expired(objects, settings, held, round(time.time() * 1000)))
    for start in range(0, len(uris), _BATCH):
        objects.delete(uris[start : start + _BATCH])
    return len(uris)


def _expired_phi(objects: ObjectStore, lifetimes: Lifetimes, held: Collection[str], now_ms: int) -> Iterator[str]:
    # A store without folders forgets an hour with its last instance, so one that was killed then left only its markers.
    for hour in sorted({*objects.folders("phi/instances"), *objects.folders("clean/done")}):
        if hour_age_days(hour, now_ms) <= lifetimes.phi_days:
            continue
        done = {item.uri.rsplit("/", 1)[-1]: item.modified_ms for item in objects.walk(f"clean/done/{hour}")}
        left = 0
        for item in objects.walk(f"phi/instances/{hour}"):
            name = item.uri.rsplit("/", 1)[-1].partition(".")[0]
            if lifetimes.phi_expired(f"{hour}/{name}", done.get(name), now_ms, held):
                yield item.uri
            else:
                left += 1
        if not left:
            yield from (f"clean/done/{hour}/{name}" for name in done)
