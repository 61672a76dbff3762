"""A book of random codes in one file, shared by processes: the same value gets the same code, whoever asks first.

It holds no value: values are looked up by an HMAC under a secret of the book's own. Who has the book can tell whether a
value that they know has a code, and nothing else.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Codebook"]

_WAIT_S = 60.0
_CODE_BYTES = 16


class Codebook:
    """A book of codes; it is made where there is none, readable by its owner only.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    SettingsError
        If it cannot be opened, or is no such book.
    """

    def __init__(self, path: Path) -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._book = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
            self._book.execute("PRAGMA synchronous=FULL")
            self._book.execute(
                "CREATE TABLE IF NOT EXISTS codes (name BLOB PRIMARY KEY, code TEXT NOT NULL) WITHOUT ROWID"
            )
            self._secret = bytes.fromhex(self._first(b"secret", secrets.token_hex(32)))
        except (OSError, sqlite3.Error, ValueError) as error:
            msg = f"Expected a book of codes at {path}, got {type(error).__name__}; restore it, or name another file"
            raise SettingsError(msg) from None

    def code(self, kind: str, value: str) -> str:
        """Return the code of a value of a kind: 32 hexadecimal digits, drawn at random when it is first asked for."""
        name = hmac.digest(self._secret, f"{kind}\0{value}".encode(), "sha256")
        return self._first(name, secrets.token_hex(_CODE_BYTES))

    def close(self) -> None:
        """Close the file."""
        self._book.close()

    def _first(self, name: bytes, code: str) -> str:
        found = self._book.execute("SELECT code FROM codes WHERE name = ?", (name,)).fetchone()
        if found is None:
            self._book.execute("INSERT OR IGNORE INTO codes VALUES (?, ?)", (name, code))
            found = self._book.execute("SELECT code FROM codes WHERE name = ?", (name,)).fetchone()
        return str(found[0])
