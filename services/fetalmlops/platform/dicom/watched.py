"""What a person's files say now: read again when they change, without a restart."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

__all__ = ["Watched", "fingerprint"]

T = TypeVar("T")

_log = get_logger(__name__)


class Watched(Generic[T]):
    """What files say now. Safe to use from any thread.

    Files that cannot be read leave the last good state in force; the log says so, and `problem`.

    Parameters
    ----------
    name
        What the log calls it, such as ``sources``.
    look
        Returns what changes whenever the files do.
    read
        Reads them; raises `SettingsError`.
    check_every_s
        Least time between two looks, in seconds.

    Raises
    ------
    SettingsError
        If the files cannot be read at the start.
    """

    def __init__(
        self, name: str, look: Callable[[], Hashable], read: Callable[[], T], *, check_every_s: float = 1.0
    ) -> None:
        self._name = name
        self._look = look
        self._read = read
        self._check_every_s = check_every_s
        self._lock = threading.Lock()
        self._seen = look()
        self._state = read()
        self._problem = ""
        self._next_look = time.monotonic() + check_every_s

    def current(self) -> T:
        """Return what counts now."""
        if time.monotonic() >= self._next_look:
            with self._lock:
                self._next_look = time.monotonic() + self._check_every_s
                self._reload()
        return self._state

    @property
    def problem(self) -> str:
        """Why what the files say now does not count; empty where it does."""
        return self._problem

    def _reload(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._state = self._read()
        except SettingsError as error:
            self._problem = str(error)
            _log.error(f"{self._name}_kept", error=str(error))
        else:
            self._problem = ""
            _log.info(f"{self._name}_read")


def fingerprint(path: Path) -> tuple[str, int, int, int] | None:
    """Return what changes whenever a file does, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path.name, status.st_mtime_ns, status.st_size, status.st_ino
