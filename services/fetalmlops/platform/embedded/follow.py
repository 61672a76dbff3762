"""Following logs that are rotated while they are read."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader
    from pathlib import Path

__all__ = ["follow_logs"]

_POLL_S = 0.2


class _Tail:
    """The new lines of one log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedReader | None = None
        self._rest = b""
        self._open(at_end=True)

    def read(self) -> list[str]:
        """Return the whole lines that came since the last call."""
        if self._file is None:
            self._open(at_end=False)
        lines = self._take()
        if self._is_rotated():
            self.close()
            self._open(at_end=False)
            lines += self._take()
        return lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, *, at_end: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("rb")
            if at_end:
                self._file.seek(0, 2)

    def _take(self) -> list[str]:
        if self._file is None:
            return []
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [line.decode("utf-8", errors="replace") for line in lines]

    def _is_rotated(self) -> bool:
        if self._file is None:
            return False
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        return now.st_ino != os.fstat(self._file.fileno()).st_ino or now.st_size < self._file.tell()


def follow_logs(paths: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield name and line of what is appended to logs from now on, without end.

    Parameters
    ----------
    paths
        Name to log; one that does not exist yet is read once it does.
    """
    tails = {name: _Tail(path) for name, path in paths.items()}
    try:
        while True:
            for name, tail in tails.items():
                for line in tail.read():
                    yield name, line
            time.sleep(_POLL_S)
    finally:
        for tail in tails.values():
            tail.close()
