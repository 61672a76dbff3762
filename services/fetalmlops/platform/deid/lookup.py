"""The way back from a keyed UID, through the entries of the vault that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fetalmlops.domain.deid.identity import InstanceIdentity
from fetalmlops.platform.deid.rotation import walk_entries

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from fetalmlops.platform.records import RecordCipher

__all__ = ["Original", "find_original"]


class Original(NamedTuple):
    """The original of a keyed UID, and the pseudonym of an instance whose clean file has it."""

    uid: str
    instance: str


async def find_original(valkey: Redis, cipher: RecordCipher, project: str, keyed: str) -> Original | None:
    """Return the original of a keyed UID, None if no entry has it. Every entry is looked at until one has.

    Raises
    ------
    SettingsError
        If a key is missing from the ring, or is another one than that which wrote.
    TransientError
        If Valkey is away.
    """
    async for batch in walk_entries(valkey, project):
        for name, record in batch.items():
            kind, pseudonym = name.split(":")[2:4]
            if kind != "instance":
                continue
            entry = msgspec.msgpack.decode(cipher.open(kind, pseudonym, record), type=InstanceIdentity)
            if keyed in entry.uids:
                return Original(entry.uids[keyed], pseudonym)
    return None
