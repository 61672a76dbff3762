"""Promoting bundles: the bundle's files and the promotion are durable in the object store before the event says so.

An empty topic is filled again from the store, where the promotions are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.codec import decode, encode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import ModelPromoted
from fetalmlops.domain.contracts.identifiers import event_id
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest
from fetalmlops.platform.bus import read_topic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fetalmlops.domain.contracts.events import ObjectRef
    from fetalmlops.platform.bus import Publisher
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import KafkaSettings

__all__ = ["fetch_bundle", "promote", "provision_model", "store_bundle"]

_PROMOTIONS = "clean/bundles/promotions"
_INSTALLATION = "installation"


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
    """
    manifest = decode_manifest(files[MANIFEST_NAME])
    digest = hashlib.sha256(files[MANIFEST_NAME]).hexdigest()
    for name, entry in manifest.files.items():
        objects.put(f"clean/bundles/{digest}/{name}", files[name], entry.media_type)
    return objects.put(f"clean/bundles/{digest}/{MANIFEST_NAME}", files[MANIFEST_NAME], "application/json")


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


async def promote(
    files: Mapping[str, bytes], *, role: Role, actor: str, reason: str, objects: ObjectStore, publisher: Publisher
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
    )
    now = round(time.time() * 1000)
    place = f"{_PROMOTIONS}/{now:014d}-{ref.sha256[:16]}.json"
    await asyncio.to_thread(objects.put, place, encode(promotion), "application/json")
    await _publish(promotion, place, now, publisher)
    return promotion


async def provision_model(
    files: Mapping[str, bytes], kafka: KafkaSettings, objects: ObjectStore, publisher: Publisher
) -> ModelPromoted | None:
    """Make sure that a model serves: refill an emptied topic, or promote the bundled model where none ever was.

    Parameters
    ----------
    files
        The bundled model's files by name.
    kafka, objects, publisher
        Broker and store.

    Returns
    -------
    ModelPromoted or None
        What was promoted now; None where the topic had a promotion already.
    """
    async for _ in read_topic(kafka, MODEL_PROMOTED):
        return None
    places = sorted(item.uri for item in await asyncio.to_thread(lambda: list(objects.walk(_PROMOTIONS))))
    latest = None
    for place in places:
        latest = decode(ModelPromoted, await asyncio.to_thread(objects.read, place))
        await _publish(latest, place, int(place.rpartition("/")[2].partition("-")[0]), publisher)
    if latest is not None:
        return latest
    reason = "first start: no promotion existed"
    return await promote(
        files, role=Role.CHAMPION, actor=_INSTALLATION, reason=reason, objects=objects, publisher=publisher
    )


async def _publish(promotion: ModelPromoted, place: str, time_ms: int, publisher: Publisher) -> None:
    digest = hashlib.sha256(place.encode()).hexdigest()[:32]
    envelope = Envelope(
        id=event_id(digest, "promotion", [promotion.bundle_digest, promotion.role]),
        type=MODEL_PROMOTED.name,
        source=f"fetalmlops/{promotion.actor}",
        time_ms=time_ms,
        subject=promotion.model,
    )
    await publisher.publish(MODEL_PROMOTED, promotion.model, envelope, promotion)
