"""Files of a store on this machine: linked in, copied where links do not reach, and forced to the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["digest_file", "fsync_path", "link", "link_new"]

_CHUNK = 1 << 20


def fsync_path(path: Path) -> None:
    """Force a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, place: Path, size: int) -> None:
    """Put a file at a place, unless one of that size is there already: it is the same object."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_file() and place.stat().st_size == size:
        return
    try:
        os.link(source, place)
    except FileExistsError:
        _copy(source, place)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK}:
            raise
        _copy(source, place)


def link_new(source: Path, place: Path) -> None:
    """Put a file at a place; raises `FileExistsError` if it is taken."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK}:
            raise
        if place.exists():
            raise FileExistsError(errno.EEXIST, "taken") from None
        _copy(source, place)


def _copy(source: Path, place: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file, source.open("rb") as reader:
        shutil.copyfileobj(reader, file, _CHUNK)
    Path(file.name).replace(place)


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
