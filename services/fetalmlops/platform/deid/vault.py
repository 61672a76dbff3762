"""The vault in Valkey: identities, encrypted under a ring of keys that can be rotated while services run.

One record (`fetalmlops.platform.records`) a patient, a study and an instance; the same identity gives the same record, so
that duplicates add nothing. The hash ``vault:<project>:ring`` says which key encrypts (``active``) and holds the
fingerprints of the vault's keys (``key:<name>``) and of the pseudonym key (``pseudonym``): by them another key is found
at the start. A record is written only while its key is the active one, in one step of the server, so that after a
rotation nobody writes under the key before it, however late a service hears of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fetalmlops.domain.deid.identity import Identity, InstanceIdentity, PatientIdentity, StudyIdentity
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.keyvalue import valkey_errors
from fetalmlops.platform.records import RecordCipher, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from fetalmlops.platform.deid.keys import VaultKeys

__all__ = ["ValkeyVault", "ring_name"]

T = TypeVar("T", bound=msgspec.Struct)

_CHECK = b"fetalmlops vault"
_KINDS: dict[type[msgspec.Struct], str] = {
    PatientIdentity: "patient",
    StudyIdentity: "study",
    InstanceIdentity: "instance",
}
_PUT = """
local active = redis.call('HGET', KEYS[1], 'active')
if active and active ~= ARGV[1] then return active end
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[i]) end
return ARGV[1]
"""
_TRIES = 5


def ring_name(project: str) -> str:
    """Return the name of the hash that describes the vault's ring."""
    return f"vault:{project}:ring"


class ValkeyVault:
    """Keeps identities; a `fetalmlops.domain.deid.identity.Vault`.

    Parameters
    ----------
    valkey
        Connection that returns bytes.
    keys
        The ring: all of its keys read. In a new vault the active one writes; in another one that which the vault names.
    project
        Id of the project whose pseudonyms name the records.
    reload
        Reads the ring again, asked when the vault names a key that is not in it; None where the ring cannot change.
    """

    def __init__(
        self, valkey: Redis, keys: VaultKeys, project: str, *, reload: Callable[[], VaultKeys] | None = None
    ) -> None:
        self._valkey = valkey
        self._project = project
        self._reload = reload
        self._cipher = RecordCipher(keys, project)
        self._active = keys.active
        self._put = valkey.register_script(_PUT)

    async def verify(self, pseudonym_fingerprint: str = "") -> None:
        """Make sure that our keys are those of this vault; a new vault is marked with them, another one is left as it is.

        Parameters
        ----------
        pseudonym_fingerprint
            Fingerprint of the project's pseudonym key; empty to leave it out.

        Raises
        ------
        SettingsError
            If a key is missing from the ring, or is another one than that which wrote.
        TransientError
            If Valkey is away.
        """
        ring = await self._ring()
        if "active" not in ring:
            await self._mark()
            ring = await self._ring()
        self._compare(ring)
        await self._open_check()
        await self._compare_pseudonym(ring, pseudonym_fingerprint)

    async def put(self, identity: Identity) -> None:
        """Keep an identity; it is in Valkey when this returns. The last one put is kept.

        Raises
        ------
        TransientError
            If Valkey is away, or the vault's active key has not reached this process yet.
        """
        pseudonyms = identity.pseudonyms
        entries: tuple[tuple[str, msgspec.Struct], ...] = (
            (pseudonyms.patient, identity.patient),
            (pseudonyms.study, identity.study),
            (pseudonyms.instance, identity.instance),
        )
        for _ in range(_TRIES):
            key = self._active
            records = {
                self._cipher.name(_KINDS[type(value)], pseudonym): self._cipher.seal(
                    key, _KINDS[type(value)], pseudonym, msgspec.msgpack.encode(value)
                )
                for pseudonym, value in entries
            }
            with valkey_errors():
                active = await self._put(
                    keys=[ring_name(self._project), *records], args=[key.encode("ascii"), *records.values()]
                )
            if active.decode("ascii", "replace") == key:
                return
            await self._follow(active.decode("ascii", "replace"))
        raise _behind()

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
            record = await self._valkey.get(self._cipher.name(_KINDS[kind], pseudonym))
        if not isinstance(record, bytes):
            return None
        if key_of(record) not in self._cipher:
            self._read_ring()
        return msgspec.msgpack.decode(self._cipher.open(_KINDS[kind], pseudonym, record), type=kind)

    async def _ring(self) -> dict[str, str]:
        with valkey_errors():
            ring: Any = await self._valkey.hgetall(ring_name(self._project))
        return {name.decode(): value.decode() for name, value in ring.items()}

    async def _mark(self) -> None:
        """Mark a new vault with our keys; one that was kept before rings were described must open with them first."""
        active = self._cipher.keys.active
        check = self._cipher.name("check", "")
        with valkey_errors():
            record = await self._valkey.get(check)
        if isinstance(record, bytes):
            self._cipher.open("check", "", record)
        with valkey_errors():
            await self._valkey.set(check, self._cipher.seal(active, "check", "", _CHECK), nx=True)
            name = ring_name(self._project)
            for key in self._cipher.keys.keys:
                await self._valkey.hsetnx(name, f"key:{key}", self._cipher.keys.fingerprint(key))
            await self._valkey.hsetnx(name, "active", active)

    def _compare(self, ring: dict[str, str]) -> None:
        """Make sure that the ring has every key that the vault names, by fingerprint, and take over its active one."""
        named = {name.removeprefix("key:"): value for name, value in ring.items() if name.startswith("key:")}
        if any(name not in self._cipher for name in named):
            self._read_ring()
        for name, fingerprint in sorted(named.items()):
            got = self._cipher.keys.fingerprint(name) if name in self._cipher else "a ring without it"
            if got != fingerprint:
                msg = (
                    f"Expected the vault's key {name!r} with fingerprint {fingerprint}, got {got}; restore the vault's key "
                    "file"
                )
                raise SettingsError(msg)
        self._active = ring["active"]

    async def _open_check(self) -> None:
        with valkey_errors():
            record = await self._valkey.get(self._cipher.name("check", ""))
        if isinstance(record, bytes):
            self._cipher.open("check", "", record)

    async def _compare_pseudonym(self, ring: dict[str, str], got: str) -> None:
        if not got:
            return
        expected = ring.get("pseudonym", "")
        if not expected:
            with valkey_errors():
                await self._valkey.hsetnx(ring_name(self._project), "pseudonym", got)
            expected = (await self._ring())["pseudonym"]
        if got != expected:
            msg = (
                f"Expected the pseudonym key with fingerprint {expected} that this vault was written with, got {got}; "
                "restore the project's key file: another key would give known patients other pseudonyms"
            )
            raise SettingsError(msg)

    async def _follow(self, active: str) -> None:
        """Take over another active key."""
        if active not in self._cipher:
            self._read_ring()
        fingerprint = (await self._ring()).get(f"key:{active}", "")
        if active not in self._cipher or self._cipher.keys.fingerprint(active) != fingerprint:
            raise _behind()
        self._active = active

    def _read_ring(self) -> None:
        if self._reload is not None:
            self._cipher = RecordCipher(self._reload(), self._project)


def _behind() -> TransientError:
    msg = (
        "Expected the vault's active key in this process's ring, got a ring without it; give the service the key file that "
        "`fetalmlops keys rotate` wrote"
    )
    return TransientError(msg, dependency="vault-key", everyone=True)
