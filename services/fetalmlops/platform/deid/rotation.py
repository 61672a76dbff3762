"""Rotation of the vault's keys while services run: a new key, every entry re-encrypted to it, and old keys retired.

Each step can be repeated, and a rotation that was killed goes on where it stood: the key file gets the new key before the
vault names it, the vault names it before entries are re-encrypted, and a key leaves the ring only when no entry uses it.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fetalmlops.domain.errors import FetalMLOpsError, SettingsError
from fetalmlops.platform.deid.keys import (
    VaultKeys,
    dump_vault_keys,
    load_vault_keys,
    replace_secret,
    vault_key_file,
    with_new_vault_key,
)
from fetalmlops.platform.deid.vault import ValkeyVault, ring_name
from fetalmlops.platform.keyvalue import valkey_errors
from fetalmlops.platform.records import KINDS, RecordCipher, key_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from redis.asyncio import Redis

    from fetalmlops.platform.settings import Settings

__all__ = ["count_entries", "locked_ring", "reencrypt", "retire", "rotate", "walk_entries"]

_BATCH = 500
_RECORDS = frozenset(kind.encode() for kind in (*KINDS, "check"))
_SWAP = """
local left = 0
for i = 1, #KEYS do
  local now = redis.call('GET', KEYS[i])
  if now == ARGV[2 * i - 1] then redis.call('SET', KEYS[i], ARGV[2 * i], 'KEEPTTL')
  elseif now then left = left + 1 end
end
return left
"""


@contextmanager
def locked_ring(settings: Settings) -> Iterator[None]:
    """Hold the ring for one who changes it.

    Raises
    ------
    FetalMLOpsError
        If another one holds it.
    """
    descriptor = os.open(settings.secrets_folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        msg = "Expected to be the only one who changes the vault's keys, got another one at it; wait until that ends"
        raise FetalMLOpsError(msg) from None
    finally:
        os.close(descriptor)


async def rotate(settings: Settings, valkey: Redis, progress: Callable[[int, int], None]) -> str:
    """Make a new key, or take up the one of a rotation that was ended early, and re-encrypt every entry to it.

    Parameters
    ----------
    settings
        The settings; hold `locked_ring`.
    valkey
        Connection that returns bytes.
    progress
        Told how many entries were looked at, and how many there are.

    Returns
    -------
    str
        Name of the key that is active now.

    Raises
    ------
    SettingsError
        If the ring is not the vault's.
    TransientError
        If Valkey is away.
    """
    ring, active, unfinished = await _verified(settings, valkey)
    name = ring_name(settings.project)
    if ring.active == active and not unfinished:
        ring = with_new_vault_key(ring)
        replace_secret(vault_key_file(settings), dump_vault_keys(ring))
    new = ring.active
    with valkey_errors():
        values: Any = {f"key:{new}": ring.fingerprint(new), "active": new, "rotating": new}
        await valkey.hset(name, mapping=values)
    await reencrypt(valkey, RecordCipher(ring, settings.project), settings.project, progress)
    with valkey_errors():
        await valkey.hdel(name, "rotating")
    return new


async def reencrypt(valkey: Redis, cipher: RecordCipher, project: str, progress: Callable[[int, int], None]) -> None:
    """Bring every entry that is under another key to the active one. Raises as `rotate`."""
    total = sum((await count_entries(valkey, project)).values())
    swap = valkey.register_script(_SWAP)
    seen = 0
    async for batch in walk_entries(valkey, project):
        seen += len(batch)
        stale = _stale(cipher, batch)
        while stale:
            arguments = [data for name, old in stale.items() for data in (old, _resealed(cipher, name, old))]
            with valkey_errors():
                left = await swap(keys=list(stale), args=arguments)
            # A writer came between: it wrote under the active key, or an entry's former value is to be read again.
            stale = _stale(cipher, await _read(valkey, list(stale))) if left else {}
        progress(seen, max(seen, total))


async def count_entries(valkey: Redis, project: str) -> Counter[str]:
    """Return how many records each key has sealed."""
    counts: Counter[str] = Counter()
    async for batch in walk_entries(valkey, project):
        counts.update(key_of(record) for record in batch.values())
    return counts


async def walk_entries(valkey: Redis, project: str) -> AsyncIterator[dict[str, bytes]]:
    """Yield the records of the vault by name, in batches; a record may come twice.

    Raises
    ------
    TransientError
        If Valkey is away.
    """
    cursor = 0
    while True:
        with valkey_errors():
            found: Any = await valkey.scan(cursor, match=f"vault:{project}:*", count=_BATCH)
        cursor, names = int(found[0]), found[1]
        records = [name.decode() for name in names if name.split(b":")[2] in _RECORDS]
        if records:
            yield await _read(valkey, records)
        if not cursor:
            return


async def retire(settings: Settings, valkey: Redis) -> list[str]:
    """Remove from the ring the keys that no entry uses any more; return their names.

    Raises
    ------
    SettingsError
        If the ring is not the vault's, or a rotation is not finished.
    TransientError
        If Valkey is away.
    """
    ring, active, unfinished = await _verified(settings, valkey)
    name = ring_name(settings.project)
    if unfinished or active != ring.active:
        msg = "Expected a finished rotation before keys are retired, got one that is not; run `fetalmlops keys rotate`"
        raise SettingsError(msg)
    used = await count_entries(valkey, settings.project)
    old = [key for key in ring.keys if key != active and not used[key]]
    if old:
        with valkey_errors():
            await valkey.hdel(name, *(f"key:{key}" for key in old))
        kept = VaultKeys(
            active,
            {key: value for key, value in ring.keys.items() if key not in old},
            {key: value for key, value in ring.made.items() if key not in old},
        )
        replace_secret(vault_key_file(settings), dump_vault_keys(kept))
    return old


async def _verified(settings: Settings, valkey: Redis) -> tuple[VaultKeys, str, str]:
    """Return our ring, which is the vault's, with the key that the vault names, and that of a rotation that is not finished."""
    ring = load_vault_keys(settings)
    await ValkeyVault(valkey, ring, settings.project).verify()
    with valkey_errors():
        found: Any = await valkey.hmget(ring_name(settings.project), "active", "rotating")
    active, unfinished = [(value or b"").decode() for value in found]
    return ring, active, unfinished


def _stale(cipher: RecordCipher, records: dict[str, bytes]) -> dict[str, bytes]:
    return {name: record for name, record in records.items() if key_of(record) != cipher.keys.active}


async def _read(valkey: Redis, names: list[str]) -> dict[str, bytes]:
    with valkey_errors():
        records = await valkey.mget(names)
    return {name: record for name, record in zip(names, records, strict=True) if isinstance(record, bytes)}


def _resealed(cipher: RecordCipher, name: str, record: bytes) -> bytes:
    kind, pseudonym = name.split(":")[2:4]
    return cipher.seal(cipher.keys.active, kind, pseudonym, cipher.open(kind, pseudonym, record))
