"""Records of the vault: their names, and how they are sealed with AES-SIV (RFC 5297) under a ring of keys.

A record stands under ``vault:<project>:<kind>:<pseudonym>`` and is::

    layout (1 byte: 1) | length of the key's name (1 byte) | key's name (ASCII) | synthetic IV (16 bytes) | ciphertext

Project, kind and pseudonym are associated data, so that a record moved to another name does not open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from fetalmlops.platform.deid.keys import VaultKeys

__all__ = ["KINDS", "RecordCipher", "key_of"]

KINDS = ("patient", "study", "instance")
"""The kinds of entries."""

_LAYOUT = 1


def key_of(record: bytes) -> str:
    """Return the name of the key that sealed a record; empty for what is no record.

    Examples
    --------
    >>> key_of(bytes((1, 2)) + b"k1" + bytes(16)), key_of(b"")
    ('k1', '')
    """
    if record[:1] != bytes((_LAYOUT,)) or len(record) < 2:
        return ""
    return record[2 : 2 + record[1]].decode("ascii", "replace")


class RecordCipher:
    """Seals and opens the records of one project.

    Parameters
    ----------
    keys
        The ring.
    project
        Id of the project.
    """

    def __init__(self, keys: VaultKeys, project: str) -> None:
        self.keys = keys
        self._project = project
        self._ciphers = {name: AESSIV(key) for name, key in keys.keys.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._ciphers

    def name(self, kind: str, pseudonym: str) -> str:
        """Return the name of a record."""
        return f"vault:{self._project}:{kind}:{pseudonym}"

    def seal(self, key: str, kind: str, pseudonym: str, plaintext: bytes) -> bytes:
        """Return a record under a key of the ring. The same plaintext and key give the same record."""
        name = key.encode("ascii")
        sealed = self._ciphers[key].encrypt(plaintext, self._associated(kind, pseudonym))
        return bytes((_LAYOUT, len(name))) + name + sealed

    def open(self, kind: str, pseudonym: str, record: bytes) -> bytes:
        """Return the plaintext of a record.

        Raises
        ------
        SettingsError
            If its key is not in the ring, or is another one than that which sealed it.
        """
        name = key_of(record)
        if name not in self._ciphers:
            msg = f"Expected the vault's key {name!r} in the ring, got a ring without it; restore the vault's key file"
            raise SettingsError(msg)
        try:
            return self._ciphers[name].decrypt(record[2 + record[1] :], self._associated(kind, pseudonym))
        except InvalidTag:
            msg = (
                f"Expected key {name!r} to open the vault, got another key of that name or a damaged record; restore the "
                "vault's key file"
            )
            raise SettingsError(msg) from None

    def _associated(self, kind: str, pseudonym: str) -> list[bytes]:
        return [part.encode() for part in ("fetalmlops/vault/1", self._project, kind, pseudonym)]
