"""Revisions: the arrival of a content's first receipt, however often it is sent again.

The earliest arrival known of a content stands in Valkey under ``revision:<content id>``, in milliseconds since the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Revisions"]

_KEEP_S = 400 * 86_400
_SETTLE = """
local known = redis.call('GET', KEYS[1])
if known and tonumber(known) <= tonumber(ARGV[1]) then return known end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
"""


class Revisions:
    """The revisions of all contents.

    Parameters
    ----------
    valkey
        Connection that returns bytes.
    """

    def __init__(self, valkey: Redis) -> None:
        self._settle = valkey.register_script(_SETTLE)

    async def settle(self, content_id: str, arrival_ms: int) -> int:
        """Return the earliest arrival known of a content, this one included.

        Parameters
        ----------
        content_id
            Content id.
        arrival_ms
            Arrival of this receipt, in milliseconds since the epoch.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        with valkey_errors():
            return int(await self._settle(keys=[f"revision:{content_id}"], args=[arrival_ms, _KEEP_S]))
