"""Erasing a patient: their objects in both zones, then their entries in the vault, the patient's own last.

In this order an erasure that was killed is completed by the next one: what is left in the vault still leads to what is left.
Events cannot be taken out of their topics; they hold pseudonyms only and end with the topics' retention.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import msgspec

from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.events import EventQuarantined, InstanceEvent
from fetalmlops.domain.contracts.topics import TOPICS
from fetalmlops.domain.deid.files.reader import read_header
from fetalmlops.domain.deid.identity import IDENTITY_TAGS, InstanceIdentity, StudyIdentity, read_identity
from fetalmlops.domain.deid.pixels.release import Release
from fetalmlops.domain.errors import ContractError, ObjectMissingError, PermanentError
from fetalmlops.domain.imaging.faults import guarded
from fetalmlops.platform.bus import read_topic
from fetalmlops.platform.deid.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.deid.releases import RELEASES
from fetalmlops.platform.deid.rotation import walk_entries
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.keyvalue import valkey_errors
from fetalmlops.platform.records import RecordCipher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from redis.asyncio import Redis

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.deid.files.reader import Wanted
    from fetalmlops.platform.objects import ObjectStore, StoredObject
    from fetalmlops.platform.settings import Settings

__all__ = ["Erasure", "erase", "find_traces"]

T = TypeVar("T")

_ORIGINALS = ("phi/instances", "phi/quarantine")
_CLEAN = "clean/instances"
_PATIENT_ID, _FRAME_OF_REFERENCE = 0x0010_0020, 0x0020_0052
_BATCH, _READERS = 1024, 16
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


@dataclass(frozen=True)
class _Cited:
    """What the events say: the patient's instances and objects, and digests of the names of other patients' objects."""

    instances: set[str] = field(default_factory=set)
    uris: set[str] = field(default_factory=set)
    others: set[bytes] = field(default_factory=set)


async def find_traces(
    settings: Settings,
    valkey: Redis,
    objects: ObjectStore,
    patient: str,
    progress: Callable[[int], None] = lambda _count: None,
) -> Erasure:
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
    progress
        Told how many stored instances were looked at.

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
    cited = await _find_events(settings, patient, found)
    found.entries = await _find_entries(
        valkey, RecordCipher(ring, settings.project), settings.project, patient, cited.instances
    )
    await asyncio.to_thread(_find_objects, objects, key, patient, cited, found, progress)
    return found


async def erase(
    valkey: Redis, objects: ObjectStore, found: Erasure, progress: Callable[[int], None] = lambda _count: None
) -> None:
    """Delete what was found: objects first, the patient's entry last.

    Raises
    ------
    TransientError
        If Valkey or the object store is away; the next erasure completes this one.
    """
    gone = 0
    for some in _batches(found.objects):
        await asyncio.to_thread(objects.delete, some)
        gone += len(some)
        progress(gone)
    for name in found.entries:
        with valkey_errors():
            await valkey.delete(name)


async def _find_events(settings: Settings, patient: str, found: Erasure) -> _Cited:
    """Count the events that refer to a patient, and collect what events say about whose objects there are."""
    cited = _Cited()
    for topic in TOPICS:
        if not issubclass(topic.event, (InstanceEvent, EventQuarantined)):
            continue
        async for record in read_topic(settings.kafka, topic):
            try:
                event: Any = decode(topic.event, record.value)
            except ContractError:
                continue
            context = event.context
            if not context or context.project != settings.project:
                continue
            uris = [uri for uri in _uris(msgspec.to_builtins(event)) if not uri.startswith("clean/bundles/")]
            if context.patient == patient:
                found.events[topic.name] += 1
                cited.instances.add(context.instance)
                cited.uris.update(uris)
            else:
                cited.others.update(map(_digest, uris))
    return cited


def _digest(uri: str) -> bytes:
    """Return a short stand-in for a name: a store has millions of them."""
    return hashlib.blake2b(uri.encode(), digest_size=16).digest()


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


def _find_objects(
    objects: ObjectStore,
    key: PseudonymKey,
    patient: str,
    cited: _Cited,
    found: Erasure,
    progress: Callable[[int], None],
) -> None:
    """Look at every stored instance whose owner no event tells, several at once, and only at its head."""

    def is_theirs(item: StoredObject) -> bool | None:
        original = not item.uri.startswith(f"{_CLEAN}/")
        try:
            with objects.open(item.uri) as file:
                return _patient_of(file, key if original else None) == patient
        except ObjectMissingError:
            return False
        except PermanentError:
            return None if original else False

    looked = 0
    with ThreadPoolExecutor(_READERS) as readers:
        uris = set(_present(objects, readers, cited.uris))
        for some in _batches(chain.from_iterable(map(objects.walk, (*_ORIGINALS, _CLEAN)))):
            # What an event cites is never overwritten, so that its owner cannot have changed since.
            unknown = [item for item in some if item.uri not in uris and _digest(item.uri) not in cited.others]
            verdicts = list(readers.map(is_theirs, unknown))
            found.unreadable += verdicts.count(None)
            uris.update(item.uri for item, theirs in zip(unknown, verdicts, strict=True) if theirs)
            looked += len(some)
            progress(looked)
    uris.update(_find_releases(objects, key.project, patient))
    found.objects = sorted(uris)


def _find_releases(objects: ObjectStore, project: str, patient: str) -> Iterator[str]:
    for item in objects.walk(RELEASES):
        try:
            release = Release.parse(objects.read(item.uri))
        except (ContractError, ObjectMissingError):
            continue
        if (release.project, release.patient) == (project, patient):
            yield item.uri


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(values)
    while some := list(islice(iterator, _BATCH)):
        yield some


def _present(objects: ObjectStore, readers: ThreadPoolExecutor, uris: set[str]) -> Iterator[str]:
    ordered = sorted(uris)
    return (uri for uri, there in zip(ordered, readers.map(objects.exists, ordered), strict=True) if there)


def _patient_of(file: BinaryIO, key: PseudonymKey | None) -> str:
    """Return the patient's pseudonym of an original, or of a clean instance (no key), which holds it."""
    with guarded("Expected a DICOM instance, got one that cannot be read"):
        dataset = read_header(file, _WANTED, stop_after=_FRAME_OF_REFERENCE).dataset
        if key is not None:
            return read_identity(dataset, key).pseudonyms.patient
        value = dataset.values.get(_PATIENT_ID)
        return value.data.decode("ascii", "replace").strip(" \0") if value else ""
