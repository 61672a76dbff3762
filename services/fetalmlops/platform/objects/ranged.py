"""Objects of S3 as files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import obstore

from fetalmlops.platform.objects.faults import translated

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

__all__ = ["RangedFile"]

_HEAD_BYTES = 72 * 1024  # a little more than a reader of headers takes in at first


class RangedFile(io.RawIOBase):
    """An object as a file of which the head is fetched at once, and more only where a reader goes beyond it."""

    def __init__(self, store: LocalStore | S3Store, path: str, uri: str) -> None:
        self._store, self._path, self._uri = store, path, uri
        result = obstore.get(store, path, options={"range": (0, _HEAD_BYTES)})
        self._size, self._head = result.meta["size"], bytes(result.bytes())
        self._offset = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought in."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, and return it; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def read(self, size: int = -1, /) -> bytes:
        """Return the bytes from here on, at most `size`; raises as `translated`."""
        end = self._size if size < 0 else min(self._offset + size, self._size)
        start, self._offset = self._offset, max(self._offset, end)
        if start >= end:
            return b""
        if end <= len(self._head):
            return self._head[start:end]
        with translated(self._uri):
            return bytes(obstore.get_range(self._store, self._path, start=start, end=end))
