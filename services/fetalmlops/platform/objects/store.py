"""The object store: claim-checked objects in files or S3, durable before `put` returns, verified when read.

A URI is ``<zone>/<class>/<hour>/<name>``; the zone chooses the store, so that each zone has its own place and credentials.
All methods block; asynchronous callers use a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError

from fetalmlops.domain.contracts.events import ObjectRef
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.objects.disk import digest_file, fsync_path, link, link_new
from fetalmlops.platform.objects.faults import mismatch, missing, translated
from fetalmlops.platform.objects.ranged import RangedFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from obstore.store import LocalStore, S3Store


__all__ = ["ObjectStore", "StoredObject"]

_CHUNK = 1 << 20


class StoredObject(NamedTuple):
    """One listed object: its URI, its size in bytes, and when it was written (milliseconds since the epoch)."""

    uri: str
    size: int
    modified_ms: int


class ObjectStore:
    """Objects of both zones.

    Parameters
    ----------
    zones
        Store of each zone that this process may reach.
    folders
        Root folder of each zone that is kept in files; its objects are fsynced before they count as stored.
    """

    def __init__(self, zones: dict[Zone, LocalStore | S3Store], folders: dict[Zone, Path]) -> None:
        self._zones = zones
        self._folders = folders
        self._synced: set[Path] = set()

    def put(self, uri: str, data: bytes | memoryview, media_type: str, *, durable: bool = True) -> ObjectRef:
        """Store an object that nobody overwrites: one that is already there whole is left, and the reference is to it.

        Parameters
        ----------
        uri
            Where to.
        data
            Its bytes; of the same size whenever the name is the same.
        media_type
            Media type for the reference.
        durable
            Whether it must survive a power cut once this returns; False for what can be made again.

        Raises
        ------
        StoreFullError
            If the store has no room.
        TransientError
            If the store does not answer.
        """
        zone, path = self._resolve(uri)
        kept = bytes(data)
        with translated(uri):
            try:
                obstore.put(self._zones[zone], path, kept, mode="create")
            except AlreadyExistsError:
                there = bytes(obstore.get(self._zones[zone], path).bytes())
                if len(there) == len(kept):
                    kept = there
                else:  # torn by a power cut before it was durable
                    obstore.put(self._zones[zone], path, kept, mode="overwrite")
            if durable and zone in self._folders:
                self._fsync(zone, path)
        return ObjectRef(uri=uri, sha256=hashlib.sha256(kept).hexdigest(), size=len(kept), media_type=media_type)

    def put_file(self, uri: str, source: Path, media_type: str, *, sha256: str | None = None) -> ObjectRef:
        """Store a file durably; in a store of files on the same file system it is linked, not copied.

        Parameters
        ----------
        uri
            Where to.
        source
            The file, left where it is.
        media_type
            Media type for the reference.
        sha256
            Its digest, if the caller has it already.

        Raises
        ------
        StoreFullError
            If the store has no room.
        TransientError
            If the store does not answer.
        """
        zone, path = self._resolve(uri)
        size = source.stat().st_size
        digest = sha256 or digest_file(source)
        with translated(uri):
            if zone in self._folders:
                link(source, self._folders[zone] / path, size)
                self._fsync(zone, path)
            else:
                obstore.put(self._zones[zone], path, source)
        return ObjectRef(uri=uri, sha256=digest, size=size, media_type=media_type)

    def add_file(self, uri: str, source: Path, media_type: str, *, sha256: str) -> ObjectRef | None:
        """Store a file durably under a name that is to be new, linking it where `put_file` does.

        Returns
        -------
        ObjectRef or None
            None if the name was taken: what is there is durable too, and left as it is.

        Raises
        ------
        StoreFullError
            If the store has no room.
        TransientError
            If the store does not answer.
        """
        zone, path = self._resolve(uri)
        size = source.stat().st_size
        with translated(uri):
            added = self._add(zone, path, source)
            if zone in self._folders:
                self._fsync(zone, path)
        return ObjectRef(uri=uri, sha256=sha256, size=size, media_type=media_type) if added else None

    def describe(self, uri: str, media_type: str) -> ObjectRef:
        """Return a reference to the object at a URI, as it is now.

        Raises
        ------
        ObjectMissingError
            If it is not there.
        TransientError
            If the store does not answer.
        """
        digest, size = hashlib.sha256(), 0
        for chunk in self.stream(uri):
            digest.update(chunk)
            size += len(chunk)
        return ObjectRef(uri=uri, sha256=digest.hexdigest(), size=size, media_type=media_type)

    def get(self, ref: ObjectRef) -> bytes:
        """Return an object's bytes.

        Raises
        ------
        ObjectMissingError
            If it is not there.
        DigestMismatchError
            If its bytes are not those that were cited.
        TransientError
            If the store does not answer.
        """
        data = self.read(ref.uri)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise mismatch(ref.uri)
        return data

    def read(self, uri: str) -> bytes:
        """Return the bytes at a URI, unverified: for objects that verify themselves. Raises as `get`."""
        zone, path = self._resolve(uri)
        with translated(uri):
            return bytes(obstore.get(self._zones[zone], path).bytes())

    def open(self, uri: str) -> BinaryIO:
        """Open the bytes at a URI, unverified, for a reader that needs few of them: only what it asks for is fetched.

        Raises
        ------
        ObjectMissingError
            If it is not there.
        TransientError
            If the store does not answer; also when the file is read.
        """
        zone, path = self._resolve(uri)
        with translated(uri):
            if zone in self._folders:
                return (self._folders[zone] / path).open("rb")
            return cast("BinaryIO", RangedFile(self._zones[zone], path, uri))

    def stream(self, uri: str) -> Iterator[bytes]:
        """Yield the bytes at a URI, unverified, in chunks of about 1 MiB. Raises as `get`."""
        zone, path = self._resolve(uri)
        with translated(uri):
            for chunk in obstore.get(self._zones[zone], path).stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    @contextmanager
    def local(self, ref: ObjectRef) -> Iterator[Path]:
        """Lend a verified object as a local file, for readers that must not hold it in memory. Raises as `get`."""
        zone, path = self._resolve(ref.uri)
        if zone in self._folders:
            place = self._folders[zone] / path
            if not place.is_file():
                raise missing(ref.uri)
            if digest_file(place) != ref.sha256:
                raise mismatch(ref.uri)
            yield place
            return
        with tempfile.TemporaryDirectory(prefix="fetalmlops-") as folder:
            place = Path(folder) / "object"
            with translated(ref.uri), place.open("wb") as file:
                for chunk in obstore.get(self._zones[zone], path).stream(min_chunk_size=_CHUNK):
                    file.write(chunk)
            if digest_file(place) != ref.sha256:
                raise mismatch(ref.uri)
            yield place

    @asynccontextmanager
    async def lend(self, ref: ObjectRef) -> AsyncIterator[Path]:
        """Lend a verified object as `local` does, from an event loop."""
        lent = self.local(ref)
        place = await asyncio.to_thread(lent.__enter__)
        try:
            yield place
        finally:
            await asyncio.to_thread(lent.__exit__, None, None, None)

    def exists(self, uri: str) -> bool:
        """Return whether an object is there."""
        zone, path = self._resolve(uri)
        with translated(uri):
            try:
                obstore.head(self._zones[zone], path)
            except (FileNotFoundError, NotFoundError):
                return False
        return True

    def walk(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects below a prefix, such as ``clean/frames``."""
        zone, path = self._resolve(prefix)
        with translated(prefix):
            for batch in obstore.list(self._zones[zone], prefix=path):
                for meta in batch:
                    modified = round(meta["last_modified"].timestamp() * 1000)
                    yield StoredObject(f"{zone}/{meta['path']}", meta["size"], modified)

    def folders(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, sorted, such as the hours of ``phi/instances``."""
        zone, path = self._resolve(prefix)
        with translated(prefix):
            found = obstore.list_with_delimiter(self._zones[zone], prefix=path)["common_prefixes"]
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)

    def delete(self, uris: Iterable[str]) -> None:
        """Delete objects, durably; what is not there counts as deleted. Only the keeper and an erasure call this.

        Raises
        ------
        TransientError
            If the store does not answer; what was deleted before is not there any more.
        """
        folders: set[Path] = set()
        try:
            for uri in uris:
                zone, path = self._resolve(uri)
                with translated(uri):
                    with suppress(FileNotFoundError, NotFoundError):
                        obstore.delete(self._zones[zone], path)
                    if zone in self._folders:
                        # Also where nothing was: one that was killed may have deleted it without getting here.
                        folders.add((self._folders[zone] / path).parent)
        finally:
            with translated(""):
                for folder in folders:
                    if folder.is_dir():
                        fsync_path(folder)

    def free_bytes(self, zone: Zone) -> int | None:
        """Return the free space below a zone kept in files, in bytes; None for a store that has no such figure."""
        folder = self._folders.get(zone)
        return None if folder is None else shutil.disk_usage(folder).free

    def incoming_folder(self, zone: Zone) -> Path:
        """Return a folder for files that `put_file` is to take, on the store's own file system where there is one."""
        folder = self._folders[zone] / ".incoming" if zone in self._folders else Path(tempfile.gettempdir())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _fsync(self, zone: Zone, path: str) -> None:
        """Make an object's bytes and its entry in its folder durable, and once each folder on the way to it."""
        root = self._folders[zone]
        place = root / path
        fsync_path(place)
        fsync_path(place.parent)
        for folder in list(place.parents)[1 : len(Path(path).parts)]:
            if place.parent not in self._synced:
                fsync_path(folder)
        self._synced.add(place.parent)

    def _add(self, zone: Zone, path: str, source: Path) -> bool:
        try:
            if zone in self._folders:
                link_new(source, self._folders[zone] / path)
            else:
                obstore.put(self._zones[zone], path, source, mode="create")
        except (FileExistsError, AlreadyExistsError):
            return False
        return True

    def _resolve(self, uri: str) -> tuple[Zone, str]:
        name, _, path = uri.partition("/")
        if name not in self._zones or ".." in path.split("/"):
            msg = f"Expected an object of the zones {', '.join(self._zones)}, got another place; check the objects settings"
            raise SettingsError(msg)
        return Zone(name), path
