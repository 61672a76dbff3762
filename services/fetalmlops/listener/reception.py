"""One C-STORE: a dataset becomes a durable object, and only then is it answered with success.

The dataset is written as it arrives, while its content id is computed; it is never decoded.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import PermanentError, TransientError
from fetalmlops.listener.announcements import announce_received, announce_refused
from fetalmlops.listener.keying import read_keying
from fetalmlops.listener.part10 import encode_head
from fetalmlops.listener.statuses import Status
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    import hmac
    from pathlib import Path

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.listener.announcer import Announcer
    from fetalmlops.listener.keying import Keying
    from fetalmlops.listener.part10 import Head
    from fetalmlops.platform.dicom.sources import SourcesFile
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import ListenerSettings

__all__ = ["Intake", "Reception", "Stored", "clear_incoming"]

MEDIA_TYPE = "application/dicom"
"""Media type of a Part 10 file (RFC 3240)."""

QUARANTINE_FOLDER = "phi/quarantine/1970-01-01T00"
"""Where objects without readable keys are kept: by content id, in no hour, so that each is kept once."""

_SUFFIX = ".fetalmlops-incoming"
_ABANDONED_S = 3600.0
_LOCKS = 64
_log = get_logger(__name__)


@dataclass(frozen=True)
class Intake:
    """What all receptions share.

    Parameters
    ----------
    settings
        The listener's settings.
    key
        The project's pseudonym key.
    objects
        The object store.
    sources
        The sources table.
    announcer
        Where events go.
    health
        Where to say that an instance was received.
    """

    settings: ListenerSettings
    key: PseudonymKey
    objects: ObjectStore
    sources: SourcesFile
    announcer: Announcer
    health: Health
    _locks: tuple[threading.Lock, ...] = field(default_factory=lambda: tuple(threading.Lock() for _ in range(_LOCKS)))

    def lock(self, content_id: str) -> threading.Lock:
        """Return the lock of a content: of equal instances that arrive at once, one is stored."""
        return self._locks[int(content_id[:4], 16) % _LOCKS]

    def has_room(self) -> bool:
        """Return whether the disk has more room than is reserved for Kafka and Valkey."""
        free = self.objects.free_bytes(Zone.PHI)
        return free is None or free > self.settings.reserve_bytes


@dataclass(frozen=True)
class Stored:
    """What came of a reception: the status to answer, and the instance's pseudonym once it is known."""

    status: Status
    instance: str = ""
    resent: bool = False


class Reception:
    """Takes one dataset in.

    Parameters
    ----------
    intake
        What all receptions share.
    head
        File meta information of the object.
    refusal
        Status to answer whatever the dataset is: it is let pass, and nothing is written.
    """

    def __init__(self, intake: Intake, head: Head, refusal: Status | None = None) -> None:
        self._intake = intake
        self._head = head
        self._path = intake.objects.incoming_folder(Zone.PHI) / f"{uuid.uuid4().hex}{_SUFFIX}"
        self._file: FileIO | None = None
        self._content: hmac.HMAC = intake.key.content_hasher(head.transfer_syntax_uid)
        self._digest = hashlib.sha256()
        self._refusal = refusal
        self.received = 0
        if refusal is None:
            self._open()

    def _open(self) -> None:
        try:
            if not self._intake.has_room():
                self._refuse(Status.OUT_OF_RESOURCES, "the reserve is reached")
                return
            self._file = FileIO(self._path, "x", opener=_open_private)
            self._write(encode_head(self._head))
        except OSError as error:
            self._refuse(Status.OUT_OF_RESOURCES, type(error).__name__)

    def close(self) -> None:
        """Remove the incoming file: what was kept of it is elsewhere."""
        if self._file is not None and not self._file.closed:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def add(self, piece: bytes) -> None:
        """Take the next piece of the dataset. What cannot be taken is let pass: `finish` says why."""
        self.received += len(piece)
        if self._refusal is not None:
            return
        if self.received > self._intake.settings.max_instance_bytes:
            self._refuse(Status.TOO_LONG, "the dataset is longer than max_instance_bytes")
            return
        self._content.update(piece)
        try:
            self._write(piece)
        except OSError as error:
            self._refuse(Status.OUT_OF_RESOURCES, type(error).__name__)

    def finish(self) -> Stored:
        """Make the object durable and announce it; return what to answer."""
        if self._refusal is not None or self._file is None:
            return Stored(self._refusal or Status.OUT_OF_RESOURCES)
        content_id = self._content.hexdigest()[:32]
        try:
            return self._keep(content_id)
        except TransientError as error:
            self._refuse(Status.OUT_OF_RESOURCES, str(error))
            return Stored(Status.OUT_OF_RESOURCES)

    def _keep(self, content_id: str) -> Stored:
        try:
            with self._path.open("rb") as file:
                keying = read_keying(file, self._intake.key, self._head.provenance)
        except PermanentError as error:
            return Stored(self._quarantine(content_id, error))
        requested = (self._head.sop_class_uid, self._head.sop_instance_uid)
        if requested != (keying.sop_class_uid, keying.sop_instance_uid):
            return Stored(Status.DATASET_MISMATCH)
        return self._store(content_id, keying)

    def _store(self, content_id: str, keying: Keying) -> Stored:
        origin = f"{_hour_now()}/{content_id}"
        with self._intake.lock(content_id):
            ref = self._intake.objects.add_file(
                f"phi/instances/{origin}.dcm", self._path, MEDIA_TYPE, sha256=self._digest.hexdigest()
            )
        instance = keying.context.instance
        if ref is None:
            # Its first receipt was announced; should that have been lost, the sweep announces it again.
            return Stored(Status.SUCCESS, instance, resent=True)
        self._intake.announcer.offer(
            announce_received(
                self._intake.key, content_id=content_id, origin=origin, ref=ref, head=self._head, keying=keying
            )
        )
        return Stored(Status.SUCCESS, instance)

    def _quarantine(self, content_id: str, error: PermanentError) -> Status:
        objects, uri = self._intake.objects, f"{QUARANTINE_FOLDER}/{content_id}.dcm"
        with self._intake.lock(content_id):
            added = objects.add_file(uri, self._path, MEDIA_TYPE, sha256=self._digest.hexdigest())
        _log.warning("not_understood", reason=error.reason, why=str(error), kept_before=added is None)
        ref = added or objects.describe(uri, MEDIA_TYPE)
        traceparent = self._head.provenance.traceparent
        entries = announce_refused(error, content_id=content_id, ref=ref, traceparent=traceparent)
        if not all(self._intake.announcer.offer(entry) for entry in entries):
            return Status.OUT_OF_RESOURCES
        return Status.CANNOT_UNDERSTAND

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        left = memoryview(data)
        while left and self._file is not None:
            left = left[self._file.write(left) or 0 :]

    def _refuse(self, status: Status, why: str) -> None:
        _log.warning("refused", status=f"0x{status:04X}", why=why)
        self._refusal = status
        if self._file is not None:
            self._file.truncate(0)


def clear_incoming(folder: Path) -> int:
    """Remove what processes that are gone left in the folder of incoming files; return how many files that were.

    A file that was written to within the last hour may belong to another listener on the same store, and stays.
    """
    limit = time.time() - _ABANDONED_S
    abandoned = [path for path in folder.glob(f"*{_SUFFIX}") if path.stat().st_mtime < limit]
    for path in abandoned:
        path.unlink(missing_ok=True)
    return len(abandoned)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _hour_now() -> str:
    """Return the hour in which an instance is stored: it names the folder, which is closed two hours later."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H")
