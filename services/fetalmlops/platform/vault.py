"""The vault in Valkey: identities, encrypted with AES-SIV (RFC 5297) under a ring of keys.

One record a patient, a study and an instance, under ``vault:<project>:<kind>:<pseudonym>``; the same identity gives the same
record, so that duplicates add nothing. A record is::

    layout (1 byte: 1) | length of the key's name (1 byte) | key's name (ASCII) | synthetic IV (16 bytes) | ciphertext

The plaintext is the identity as MessagePack; project, kind and pseudonym are associated data, so that a record moved to
another name does not open. ``vault:<project>:check`` holds a known text, by which a wrong key is found at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from fetalmlops.domain.deid.identity import Identity, InstanceIdentity, PatientIdentity, StudyIdentity
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from fetalmlops.platform.keys import VaultKeys

__all__ = ["ValkeyVault"]

T = TypeVar("T", bound=msgspec.Struct)

_LAYOUT = 1
_CHECK = b"fetalmlops vault"
_KINDS: dict[type[msgspec.Struct], str] = {
    PatientIdentity: "patient",
    StudyIdentity: "study",
    InstanceIdentity: "instance",
}


class ValkeyVault:
    """Keeps identities; a `fetalmlops.domain.deid.identity.Vault`.

    Parameters
    ----------
    valkey
        Connection that returns bytes.
    keys
        The ring: the active key writes, all of them read.
    project
        Id of the project whose pseudonyms name the records.
    """

    def __init__(self, valkey: Redis, keys: VaultKeys, project: str) -> None:
        self._valkey = valkey
        self._project = project
        self._active = keys.active
        self._ciphers = {name: AESSIV(key) for name, key in keys.keys.items()}

    async def verify(self) -> None:
        """Make sure that the ring opens this vault; a new vault is marked with the active key.

        Raises
        ------
        SettingsError
            If a key is missing from the ring, or is another one than that which wrote.
        TransientError
            If Valkey is away.
        """
        name = f"vault:{self._project}:check"
        with valkey_errors():
            await self._valkey.set(name, self._seal("check", "", _CHECK), nx=True)
            record = await self._valkey.get(name)
        self._open("check", "", record if isinstance(record, bytes) else b"")

    async def put(self, identity: Identity) -> None:
        """Keep an identity; it is in Valkey when this returns. The last one put is kept.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        pseudonyms = identity.pseudonyms
        entries: tuple[tuple[str, msgspec.Struct], ...] = (
            (pseudonyms.patient, identity.patient),
            (pseudonyms.study, identity.study),
            (pseudonyms.instance, identity.instance),
        )
        records = {
            self._name(_KINDS[type(value)], pseudonym): self._pack(pseudonym, value) for pseudonym, value in entries
        }
        with valkey_errors():
            await self._valkey.mset(records)

    async def patient(self, pseudonym: str) -> PatientIdentity | None:
        """Return the patient of a pseudonym, None if there is none.

        Raises
        ------
        SettingsError
            If its key is missing from the ring, or is another one than that which wrote.
        TransientError
            If Valkey is away.
        """
        return await self._get(PatientIdentity, pseudonym)

    async def study(self, pseudonym: str) -> StudyIdentity | None:
        """Return the study of a pseudonym, None if there is none. Raises as `patient`."""
        return await self._get(StudyIdentity, pseudonym)

    async def instance(self, pseudonym: str) -> InstanceIdentity | None:
        """Return the instance of a pseudonym, None if there is none. Raises as `patient`."""
        return await self._get(InstanceIdentity, pseudonym)

    async def _get(self, kind: type[T], pseudonym: str) -> T | None:
        with valkey_errors():
            record = await self._valkey.get(self._name(_KINDS[kind], pseudonym))
        if not isinstance(record, bytes):
            return None
        return msgspec.msgpack.decode(self._open(_KINDS[kind], pseudonym, record), type=kind)

    def _name(self, kind: str, pseudonym: str) -> str:
        return f"vault:{self._project}:{kind}:{pseudonym}"

    def _pack(self, pseudonym: str, value: msgspec.Struct) -> bytes:
        return self._seal(_KINDS[type(value)], pseudonym, msgspec.msgpack.encode(value))

    def _seal(self, kind: str, pseudonym: str, plaintext: bytes) -> bytes:
        name = self._active.encode("ascii")
        sealed = self._ciphers[self._active].encrypt(plaintext, self._associated(kind, pseudonym))
        return bytes((_LAYOUT, len(name))) + name + sealed

    def _open(self, kind: str, pseudonym: str, record: bytes) -> bytes:
        start = 2 + (record[1] if len(record) > 1 else 0)
        name = record[2:start].decode("ascii", "replace")
        if record[:1] != bytes((_LAYOUT,)) or name not in self._ciphers:
            msg = f"Expected the vault's key {name!r} in the ring, got a ring without it; restore the vault's key file"
            raise SettingsError(msg)
        try:
            return self._ciphers[name].decrypt(record[start:], self._associated(kind, pseudonym))
        except InvalidTag:
            msg = (
                f"Expected key {name!r} to open the vault, got another key of that name or a damaged record; restore the "
                "vault's key file"
            )
            raise SettingsError(msg) from None

    def _associated(self, kind: str, pseudonym: str) -> list[bytes]:
        return [part.encode() for part in ("fetalmlops/vault/1", self._project, kind, pseudonym)]
