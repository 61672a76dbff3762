"""The store seen as an outbox: which instances have no done marker yet, and an event from an object alone."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING

from fetalmlops.domain.contracts.events import ObjectRef
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.listener.announcements import announce_received, announce_refused
from fetalmlops.listener.keying import read_keying
from fetalmlops.listener.part10 import MAX_HEAD_BYTES, read_head
from fetalmlops.listener.reception import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.errors import PermanentError
    from fetalmlops.listener.announcer import Announcement
    from fetalmlops.platform.objects import ObjectStore

__all__ = ["Backlog", "Unfinished"]

_INSTANCES = "phi/instances"
_DONE = "clean/done"
_SUFFIX = ".dcm"
_OPEN_HOURS = timedelta(hours=2)
_IN_MEMORY_BYTES = 8 * 1024 * 1024
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One stored instance without a done marker: its hour and content id, and when it was stored (ms since the epoch)."""

    hour: str
    content_id: str
    stored_ms: int

    @property
    def origin(self) -> str:
        """Arrival hour and object name."""
        return f"{self.hour}/{self.content_id}"

    @property
    def uri(self) -> str:
        """Where the object lies."""
        return f"{_INSTANCES}/{self.origin}{_SUFFIX}"


class Backlog:
    """Finds the unfinished instances of a store.

    Parameters
    ----------
    objects
        The object store.
    key
        The project's pseudonym key.
    """

    def __init__(self, objects: ObjectStore, key: PseudonymKey) -> None:
        self._objects = objects
        self._key = key
        self._closed: set[str] = set()

    def unfinished(self) -> Iterator[Unfinished]:
        """Yield the instances without a done marker, newest hour first; an hour that is closed is not looked at again."""
        hours = self._objects.folders(_INSTANCES)
        self._closed.intersection_update(hours)
        for hour in reversed(hours):
            if hour in self._closed:
                continue
            # Instances first: one that ends in between then counts as ended.
            stored = {_name(item.uri): item.modified_ms for item in self._objects.walk(f"{_INSTANCES}/{hour}")}
            for item in self._objects.walk(f"{_DONE}/{hour}"):
                stored.pop(_name(item.uri), None)
            if not stored and _is_past(hour):
                self._closed.add(hour)
            for name, stored_ms in stored.items():
                yield Unfinished(hour, name, stored_ms)

    def is_done(self, item: Unfinished) -> bool:
        """Return whether an instance has its done marker by now."""
        return self._objects.exists(f"{_DONE}/{item.origin}")

    def announce(self, item: Unfinished) -> Announcement:
        """Return an instance's announcement, made from the object alone.

        Raises
        ------
        PermanentError
            If the object is damaged.
        SettingsError
            If it belongs to another project.
        ObjectMissingError
            If it is gone.
        TransientError
            If the store does not answer.
        """
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
            ref = self._fetch(item, file)
            file.seek(0)
            head = read_head(file.read(MAX_HEAD_BYTES))
            if (head.provenance.project, head.provenance.key) != (self._key.project, self._key.fingerprint):
                msg = "Expected an instance of this project and its key, got one of another; give each project its own store"
                raise SettingsError(msg)
            self._verify(item, file, head.length, head.transfer_syntax_uid)
            keying = read_keying(file, self._key, head.provenance)
            return announce_received(
                self._key, content_id=item.content_id, origin=item.origin, ref=ref, head=head, keying=keying
            )

    def refuse(self, item: Unfinished, error: PermanentError) -> tuple[Announcement, ...]:
        """Return the quarantine entry of a damaged object, and its twin; once both are published, the instance is done."""
        ref = self._objects.describe(item.uri, MEDIA_TYPE)
        entries = announce_refused(error, content_id=item.content_id, ref=ref, traceparent="", origin=item.origin)
        published = itertools.count(1)

        def acknowledged() -> None:
            if next(published) == len(entries):
                self._objects.put(f"{_DONE}/{item.origin}", b"", "text/plain", durable=False)

        return tuple(replace(entry, acknowledged=acknowledged) for entry in entries)

    def _fetch(self, item: Unfinished, file: IO[bytes]) -> ObjectRef:
        for chunk in self._objects.stream(item.uri):
            file.write(chunk)
        file.seek(0)
        digest = _hashed(file)
        return ObjectRef(uri=item.uri, sha256=digest, size=file.tell(), media_type=MEDIA_TYPE)

    def _verify(self, item: Unfinished, file: IO[bytes], start: int, transfer_syntax_uid: str) -> None:
        content = self._key.content_hasher(transfer_syntax_uid)
        file.seek(start)
        while chunk := file.read(_CHUNK):
            content.update(chunk)
        if not content.hexdigest().startswith(item.content_id):
            msg = "Expected an object with the content that its name says, got another; the store may be damaged"
            raise ContractError(msg, reason="object-damaged")


def _hashed(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _name(uri: str) -> str:
    return uri.rpartition("/")[2].removesuffix(_SUFFIX)


def _is_past(hour: str) -> bool:
    try:
        began = datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        return False
    return began + timedelta(hours=1) + _OPEN_HOURS < datetime.fromtimestamp(time.time(), UTC)
