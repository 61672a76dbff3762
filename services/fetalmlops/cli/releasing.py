"""A person looks at a refused image and releases it: recorded first, then replayed."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import typer

from fetalmlops.cli import audited
from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.events import InstanceReceived
from fetalmlops.domain.contracts.refusals import RefusalDetails
from fetalmlops.domain.contracts.topics import INSTANCE_RECEIVED
from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.deid.pixels.release import Release
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform import quarantine as actions
from fetalmlops.platform.deid.releases import keep_release
from fetalmlops.platform.deid.thumbnails import make_thumbnail
from fetalmlops.platform.objects import open_objects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fetalmlops.domain.contracts.events import EventQuarantined
    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

__all__ = ["parse_areas", "preview_release", "release_entry", "show_thumbnail"]

_RELEASABLE = frozenset((Refusal.PIXELS_UNPROVEN, Refusal.TEXT_FOUND, Refusal.RELEASE_INVALID, Refusal.RELEASE_MISSING))
_NUMBERS = 4


def parse_areas(words: Sequence[str]) -> tuple[Rectangle, ...]:
    """Return the areas that options state as X0,Y0,X1,Y1.

    Raises
    ------
    typer.BadParameter
        If one is not four whole numbers.

    Examples
    --------
    >>> parse_areas(["10,20,300,400"])
    ((10, 20, 300, 400),)
    """
    areas: list[Rectangle] = []
    for word in words:
        numbers = word.replace(" ", "").split(",")
        if len(numbers) != _NUMBERS or not all(number.isascii() and number.isdigit() for number in numbers):
            msg = "Expected X0,Y0,X1,Y1: four whole numbers of pixels, upper bounds exclusive, got another text"
            raise typer.BadParameter(msg)
        x0, y0, x1, y1 = map(int, numbers)
        areas.append((x0, y0, x1, y1))
    return tuple(areas)


async def show_thumbnail(settings: Settings, wanted: str, place: Path, reason: str) -> None:
    """Write the thumbnail of an entry's image, recorded first: what was proven as it is, all else as a mosaic.

    Raises
    ------
    FetalMLOpsError
        If there is no such entry, its image cannot be drawn, or the broker or the store is away.
    """
    objects = open_objects(settings)
    entry, event = await _read(settings, objects, wanted)
    details = entry.details or RefusalDetails()
    await audited.record(settings, "show-thumbnail", entry.entry_id, "granted", reason)
    boxes = [text.box for text in details.texts]
    thumbnail = await make_thumbnail(settings, objects, event.object, details.rectangles, boxes)
    _write(place, thumbnail.png)


async def preview_release(
    settings: Settings,
    wanted: str,
    keep: Sequence[Rectangle],
    mask: Sequence[Rectangle],
    account: str,
    reason: str,
    place: Path,
) -> Release:
    """Write what an image would be with a release, recorded first, and change nothing. Raises as `release_entry`."""
    objects = open_objects(settings)
    entry, event = await _read(settings, objects, wanted)
    release = await _state(settings, objects, entry, event, keep, mask, account, reason)
    await _record(settings, release, "dry-run")
    kept = release.areas(entry.details.rectangles if entry.details else ())
    _write(place, (await make_thumbnail(settings, objects, event.object, kept, blank=True)).png)
    return release


async def release_entry(
    settings: Settings, wanted: str, keep: Sequence[Rectangle], mask: Sequence[Rectangle], account: str, reason: str
) -> Release:
    """Record a person's release of an entry's image, durably and in the audit, and replay the entry with it.

    A command that was killed in between may be given again: the same release has the same record, and gives the same result.

    Raises
    ------
    FetalMLOpsError
        If there is no such entry, it was not refused for its pixels, the areas do not fit its image, or the broker or the
        store is away.
    """
    objects = open_objects(settings)
    entry, event = await _read(settings, objects, wanted)
    release = await _state(settings, objects, entry, event, keep, mask, account, reason)
    await asyncio.to_thread(keep_release, objects, event.origin, release)
    await _record(settings, release, "granted")
    async with actions.publishing(settings.kafka) as publisher:
        await actions.replay(entry, publisher, objects, release=release.name)
    return release


async def _read(settings: Settings, objects: ObjectStore, wanted: str) -> tuple[EventQuarantined, InstanceReceived]:
    item = await actions.find_entry(settings.kafka, wanted)
    if item.entry.topic != INSTANCE_RECEIVED.name or item.entry.reason not in _RELEASABLE:
        msg = f"Expected an entry that was refused for its pixels, got one for {item.entry.reason}; see quarantine show"
        raise FetalMLOpsError(msg)
    entry = await actions.read_entry(settings.kafka, item)
    return entry, decode(InstanceReceived, await actions.read_original(entry, objects))


async def _state(
    settings: Settings,
    objects: ObjectStore,
    entry: EventQuarantined,
    event: InstanceReceived,
    keep: Sequence[Rectangle],
    mask: Sequence[Rectangle],
    account: str,
    reason: str,
) -> Release:
    """Return the release, made to fit the image itself and not what the entry says of it."""
    image = await make_thumbnail(settings, objects, event.object)
    release = Release.state(
        project=event.context.project,
        patient=event.context.patient,
        content_id=event.content_id,
        entry_id=entry.entry_id,
        rows=image.rows,
        columns=image.columns,
        keep=keep,
        mask=mask,
        account=account,
        reason=reason,
    )
    if not release.areas(entry.details.rectangles if entry.details else ()):
        msg = "Expected areas of which something is left, got none; state what shows no identifier with --keep"
        raise FetalMLOpsError(msg)
    return release


async def _record(settings: Settings, release: Release, outcome: str) -> None:
    await audited.record(
        settings,
        "release-pixels",
        release.entry_id,
        outcome,
        release.reason,
        account=release.account,
        content=release.content_id,
        record=release.digest,
        keep=_words(release.keep),
        mask=_words(release.mask),
    )


def _words(areas: Sequence[Rectangle]) -> str:
    return " ".join(",".join(map(str, area)) for area in areas)


def _write(place: Path, png: bytes) -> None:
    """Write a picture that its owner only can read."""
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(png)
    except OSError as error:
        msg = f"Expected to write {place}, got {type(error).__name__}; name a file in a folder that you may write to"
        raise FetalMLOpsError(msg) from None
