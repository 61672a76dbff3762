"""Promoting bundles: the bundle's files and the promotion are durable in the object store before the event says so.

What the topic lacks is published again from the store, where the promotions are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Final

import msgspec

from fetalmlops.domain.contracts.codec import decode, encode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import ModelPromoted
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED
from fetalmlops.domain.errors import ContractError, DigestMismatchError, SettingsError
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest
from fetalmlops.domain.operations.promotions import History, Promoted
from fetalmlops.platform.bus import read_topic
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import ConsumerRecord

    from fetalmlops.domain.contracts.events import ObjectRef
    from fetalmlops.platform.bus import Publisher
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import KafkaSettings

__all__ = [
    "INSTALLATION",
    "announce",
    "fetch_bundle",
    "fetch_stored",
    "promote",
    "provision_model",
    "read_history",
    "retire",
    "store_bundle",
]

INSTALLATION: Final = "installation"
"""The only actor that is no person: it promotes the bundled model where none was promoted ever."""

_BUNDLES: Final = "clean/bundles"
_PROMOTIONS: Final = f"{_BUNDLES}/promotions"
_JSON: Final = "application/json"
_LEAST_DIGITS: Final = 8
_log = get_logger(__name__)


def store_bundle(objects: ObjectStore, files: Mapping[str, bytes]) -> ObjectRef:
    """Store a bundle's files under its digest, the manifest last, and return the manifest's reference.

    Parameters
    ----------
    objects
        Store of the clean zone.
    files
        All files by name, among them the manifest, which gives their media types.

    Raises
    ------
    ContractError
        If the manifest breaks its contract.
    DigestMismatchError
        If a file that the store has already is not the manifest's: nothing there is overwritten.
    """
    manifest = decode_manifest(files[MANIFEST_NAME])
    digest = hashlib.sha256(files[MANIFEST_NAME]).hexdigest()
    wanted = {name: (entry.sha256, entry.media_type) for name, entry in manifest.files.items()}
    for name, (sha256, media_type) in {**wanted, MANIFEST_NAME: (digest, _JSON)}.items():
        ref = objects.put(f"{_BUNDLES}/{digest}/{name}", files[name], media_type)
        if ref.sha256 != sha256:
            msg = f"Expected {ref.uri} to be the manifest's, got a damaged object; delete it, and promote the bundle again"
            raise DigestMismatchError(msg)
    return ref


def fetch_bundle(objects: ObjectStore, manifest: ObjectRef) -> dict[str, bytes]:
    """Return the files of the bundle that a promotion names; the bundle's own check verifies them against the manifest.

    Raises
    ------
    ObjectMissingError
        If a file is not there.
    DigestMismatchError
        If the manifest is not the one that was cited.
    """
    data = objects.get(manifest)
    folder = manifest.uri.rpartition("/")[0]
    files = {name: objects.read(f"{folder}/{name}") for name in decode_manifest(data).files}
    return {MANIFEST_NAME: data, **files}


def fetch_stored(objects: ObjectStore, digest: str) -> dict[str, bytes]:
    """Return the files of a bundle in the store by the beginning of its digest, at least 8 hexadecimal digits.

    Raises
    ------
    SettingsError
        If it is no beginning of a digest, or none or several bundles have it.
    ObjectMissingError
        If a file is not there.
    """
    is_digest = len(digest) >= _LEAST_DIGITS and set(digest) <= set("0123456789abcdef")
    found = [name for name in objects.folders(_BUNDLES) if is_digest and name.startswith(digest)]
    if len(found) != 1:
        msg = (
            f"Expected the beginning of one stored bundle's digest, {_LEAST_DIGITS} digits or more, got that of {len(found)}; "
            "see `fetalmlops models history`"
        )
        raise SettingsError(msg)
    return fetch_bundle(objects, objects.describe(f"{_BUNDLES}/{found[0]}/{MANIFEST_NAME}", _JSON))


def read_history(objects: ObjectStore) -> History:
    """Return all promotions that were ever made; one that cannot be read is passed over."""
    found = []
    for item in objects.walk(_PROMOTIONS):
        try:
            found.append(Promoted(_moment(item.uri), item.uri, decode(ModelPromoted, objects.read(item.uri))))
        except ContractError as error:
            _log.warning("promotion_passed_over", place=item.uri, error=str(error))
    return History(found)


async def promote(
    files: Mapping[str, bytes],
    *,
    role: Role,
    actor: str,
    reason: str,
    objects: ObjectStore,
    publisher: Publisher,
    rollback: bool = False,
) -> ModelPromoted:
    """Store a bundle and its promotion, then publish it.

    Parameters
    ----------
    files
        The bundle's files by name.
    role
        Role in which it is to serve.
    actor, reason
        Who promotes it and why.
    objects
        Store of the clean zone.
    publisher
        For the event.
    rollback
        Whether the role goes back to a bundle that had it before.

    Raises
    ------
    DigestMismatchError
        As `store_bundle`.
    """
    manifest = decode_manifest(files[MANIFEST_NAME])
    ref = await asyncio.to_thread(store_bundle, objects, files)
    promotion = ModelPromoted(
        model=manifest.name,
        version=manifest.version,
        role=role,
        bundle_digest=ref.sha256,
        manifest=ref,
        release_status=manifest.release_status,
        actor=actor,
        reason=reason,
        rollback=rollback,
    )
    return await announce(promotion, objects, publisher)


async def retire(
    promotion: ModelPromoted, *, actor: str, reason: str, objects: ObjectStore, publisher: Publisher
) -> ModelPromoted:
    """End the role of the bundle that a promotion gave it to, by a promotion that says so. Parameters are as of `promote`."""
    ended = msgspec.structs.replace(promotion, actor=actor, reason=reason, rollback=False, retired=True)
    return await announce(ended, objects, publisher)


async def provision_model(
    files: Mapping[str, bytes], kafka: KafkaSettings, objects: ObjectStore, publisher: Publisher
) -> ModelPromoted | None:
    """Make sure that a model serves: publish what the topic lacks, or promote the bundled model where none ever was.

    Parameters
    ----------
    files
        The bundled model's files by name.
    kafka, objects, publisher
        Broker and store.

    Returns
    -------
    ModelPromoted or None
        The last of what was published now; None where the topic had everything.
    """
    known_ms = -1
    async for record in read_topic(kafka, MODEL_PROMOTED):
        known_ms = max(known_ms, _time_of(record))
    history = await asyncio.to_thread(read_history, objects)
    latest = None
    # Newer ones alone: their maker ended between the store and the topic, or the topic was emptied.
    for each in history.promotions:
        if each.time_ms > known_ms:
            latest = each.event
            await _publish(each, publisher)
    if latest is not None or known_ms >= 0:
        return latest
    reason = "first start: no promotion existed"
    return await promote(
        files, role=Role.CHAMPION, actor=INSTALLATION, reason=reason, objects=objects, publisher=publisher
    )


async def announce(promotion: ModelPromoted, objects: ObjectStore, publisher: Publisher) -> ModelPromoted:
    """Store a promotion, then publish it; returns it with what it replaces."""
    history = await asyncio.to_thread(read_history, objects)
    current = history.current(promotion.role)
    replaces = current.event.bundle_digest if current and not promotion.retired else None
    promotion = msgspec.structs.replace(promotion, replaces=replaces)
    # Promotions count in order of time: a clock that is behind must not put one before those that it follows.
    moment = max(round(time.time() * 1000), history.last_ms + 1)
    place = f"{_PROMOTIONS}/{moment:014d}-{promotion.bundle_digest[:16]}.json"
    await asyncio.to_thread(objects.put, place, encode(promotion), _JSON)
    await _publish(Promoted(moment, place, promotion), publisher)
    return promotion


async def _publish(promoted: Promoted, publisher: Publisher) -> None:
    promotion = promoted.event
    digest = hashlib.sha256(promoted.place.encode()).hexdigest()[:32]
    envelope = Envelope(
        id=event_id(digest, "promotion", [promotion.bundle_digest, promotion.role]),
        type=MODEL_PROMOTED.name,
        source="fetalmlops/cli",
        time_ms=promoted.time_ms,
        subject=promotion.model,
    )
    await publisher.publish(MODEL_PROMOTED, promotion.model, envelope, promotion)


def _moment(place: str) -> int:
    digits = place.rpartition("/")[2].partition("-")[0]
    if not digits.isdecimal():
        msg = "Expected a promotion named by its time, got another object; remove it"
        raise ContractError(msg, reason="promotion")
    return int(digits)


def _time_of(record: ConsumerRecord) -> int:
    """Return when a record of the topic was promoted; one that cannot be read is there, and tells nothing."""
    try:
        return Envelope.from_headers(record.headers).time_ms
    except ContractError:
        return 0
