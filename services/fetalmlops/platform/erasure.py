"""Erasing a patient: their objects in both zones, then their entries in the vault, the patient's own last.

In this order an erasure that was killed is completed by the next one: what is left in the vault still leads to what is left.
Events cannot be taken out of their topics; they hold pseudonyms only and end with the topics' retention.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.events import EventQuarantined, InstanceEvent
from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.domain.deid.identity import IDENTITY_TAGS, InstanceIdentity, StudyIdentity, read_identity
from fetalmlops.domain.deid.reader import read_header
from fetalmlops.domain.errors import ContractError, ObjectMissingError, PermanentError
from fetalmlops.domain.imaging.faults import guarded
from fetalmlops.platform.bus import read_topic
from fetalmlops.platform.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.keyvalue import valkey_errors
from fetalmlops.platform.records import RecordCipher
from fetalmlops.platform.rotation import walk_entries
from fetalmlops.platform.vault import ValkeyVault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.deid.reader import Wanted
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

__all__ = ["Erasure", "erase", "find_traces"]

_ORIGINALS = ("phi/instances", "phi/quarantine")
_CLEAN = "clean/instances"
_PATIENT_ID, _FRAME_OF_REFERENCE = 0x0010_0020, 0x0020_0052
_WANTED: Wanted = dict.fromkeys(IDENTITY_TAGS)


@dataclass
class Erasure:
    """What there is of a patient.

    Parameters
    ----------
    objects
        URIs of objects that are there.
    entries
        Names of the vault's entries that are there: instances, then studies, then the patient.
    events
        Topic to the number of its events that refer to the patient; they stay until the topic's retention.
    unreadable
        Objects of zone phi that name no patient that could be read: a person has to look at them.
    """

    objects: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0


async def find_traces(settings: Settings, valkey: Redis, objects: ObjectStore, patient: str) -> Erasure:
    """Find what there is of a patient, by the vault, the events and the objects themselves.

    Parameters
    ----------
    settings
        The settings.
    valkey
        Connection that returns bytes.
    objects
        Store of both zones.
    patient
        Pseudonym of the patient.

    Raises
    ------
    SettingsError
        If a key is missing, or is not the vault's.
    TransientError
        If Valkey, the broker or the object store is away.
    """
    key, ring = load_pseudonym_key(settings), load_vault_keys(settings)
    await ValkeyVault(valkey, ring, settings.project).verify(key.fingerprint)
    found = Erasure()
    instances, uris = await _find_events(settings, patient, found)
    found.entries = await _find_entries(
        valkey, RecordCipher(ring, settings.project), settings.project, patient, instances
    )
    await asyncio.to_thread(_find_objects, objects, key, patient, uris, found)
    return found


async def erase(valkey: Redis, objects: ObjectStore, found: Erasure) -> None:
    """Delete what was found: objects first, the patient's entry last.

    Raises
    ------
    TransientError
        If Valkey or the object store is away; the next erasure completes this one.
    """
    await asyncio.to_thread(objects.delete, found.objects)
    for name in found.entries:
        with valkey_errors():
            await valkey.delete(name)


async def _find_events(settings: Settings, patient: str, found: Erasure) -> tuple[set[str], set[str]]:
    """Count the events that refer to a patient; return the instances and the objects that they name."""
    instances: set[str] = set()
    uris: set[str] = set()
    for topic in TOPICS:
        if not issubclass(topic.event, (InstanceEvent, EventQuarantined)):
            continue
        async for record in read_topic(settings.kafka, topic):
            try:
                event: Any = decode(topic.event, record.value)
            except ContractError:
                continue
            context = event.context
            if context and (context.project, context.patient) == (settings.project, patient):
                found.events[topic.name] += 1
                instances.add(context.instance)
                uris.update(_uris(msgspec.to_builtins(event)))
    return instances, {uri for uri in uris if not uri.startswith("clean/bundles/")}


def _uris(value: Any) -> Iterator[str]:
    """Yield the objects that an event cites."""
    if isinstance(value, dict):
        if "uri" in value and "sha256" in value:
            yield str(value["uri"])
        for inner in value.values():
            yield from _uris(inner)


async def _find_entries(
    valkey: Redis, cipher: RecordCipher, project: str, patient: str, instances: set[str]
) -> list[str]:
    """Return the names of a patient's entries in the order in which they may be deleted."""
    studies: set[str] = set()
    belongs: dict[str, str] = {}
    patients: set[str] = set()
    async for batch in walk_entries(valkey, project):
        for name, record in batch.items():
            kind, pseudonym = name.split(":")[2:4]
            if kind == "patient" and pseudonym == patient:
                patients.add(name)
            elif kind == "study":
                study = msgspec.msgpack.decode(cipher.open(kind, pseudonym, record), type=StudyIdentity)
                if study.patient == patient:
                    studies.add(pseudonym)
            elif kind == "instance":
                instance = msgspec.msgpack.decode(cipher.open(kind, pseudonym, record), type=InstanceIdentity)
                belongs[pseudonym] = instance.study
    # An instance whose study went to another patient since (a corrected id) is found by the events that named this one.
    mine = sorted(name for name, study in belongs.items() if study in studies or name in instances)
    return [
        *(cipher.name("instance", name) for name in mine),
        *(cipher.name("study", name) for name in sorted(studies)),
        *sorted(patients),
    ]


def _find_objects(objects: ObjectStore, key: PseudonymKey, patient: str, cited: set[str], found: Erasure) -> None:
    uris = {uri for uri in cited if objects.exists(uri)}
    for prefix in (*_ORIGINALS, _CLEAN):
        for item in objects.walk(prefix):
            if item.uri in uris:
                continue
            try:
                data = objects.read(item.uri)
            except ObjectMissingError:
                continue
            try:
                owner = _patient_of(data, None if prefix == _CLEAN else key)
            except PermanentError:
                found.unreadable += prefix != _CLEAN
                continue
            if owner == patient:
                uris.add(item.uri)
    found.objects = sorted(uris)


def _patient_of(data: bytes, key: PseudonymKey | None) -> str:
    """Return the patient's pseudonym of an original, or of a clean instance (no key), which holds it."""
    with guarded("Expected a DICOM instance, got one that cannot be read"):
        dataset = read_header(io.BytesIO(data), _WANTED, stop_after=_FRAME_OF_REFERENCE).dataset
        if key is not None:
            return read_identity(dataset, key).pseudonyms.patient
        value = dataset.values.get(_PATIENT_ID)
        return value.data.decode("ascii", "replace").strip(" \0") if value else ""
