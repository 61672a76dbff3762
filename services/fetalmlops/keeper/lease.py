"""The lease by which one keeper of several is active."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Lease"]

_KEY = "lease:keeper"
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_GIVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    """Held by one process at a time, for a bounded time unless renewed.

    Parameters
    ----------
    valkey
        Connection.
    seconds
        How long it is held without renewal.
    """

    def __init__(self, valkey: Redis, seconds: float) -> None:
        self._holder = uuid.uuid4().hex
        self._milliseconds = round(seconds * 1000)
        self._take = valkey.register_script(_TAKE)
        self._give = valkey.register_script(_GIVE)

    async def hold(self) -> bool:
        """Take or renew it; return whether it is ours.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        with valkey_errors():
            return bool(await self._take(keys=[_KEY], args=[self._holder, self._milliseconds]))

    async def release(self) -> None:
        """Give it back at once. Raises as `hold`."""
        with valkey_errors():
            await self._give(keys=[_KEY], args=[self._holder])
