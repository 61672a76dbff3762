"""Attempts: a record in Valkey of each event in work, by which an event that kills its process is found.

A record is ``<incarnation>|<alone>|<deaths>`` under the event's id. Who finds a record of another incarnation runs the event
alone; finding one that was alone means that a process died on it.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Attempt", "Attempts"]

_BEGIN = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
local deaths, suspect = 0, 0
if old then
  local incarnation, alone, before = string.match(old, '^(.-)|(%d)|(%d+)$')
  deaths = tonumber(before)
  if incarnation ~= ARGV[2] then
    suspect = 1
    if alone == '1' then deaths = deaths + 1 end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '|0|' .. deaths)
return {deaths, suspect}
"""


class Attempt(NamedTuple):
    """How often processes died on an event while it ran alone, and whether it has to run alone."""

    deaths: int
    suspect: bool


class Attempts:
    """The attempts of one stage.

    Parameters
    ----------
    valkey
        Connection.
    stage
        Name of the stage.
    """

    def __init__(self, valkey: Redis, stage: str) -> None:
        self._valkey = valkey
        self._key = f"attempts:{stage}"
        self._incarnation = uuid.uuid4().hex
        self._begin = valkey.register_script(_BEGIN)

    async def begin(self, event_id: str) -> Attempt:
        """Record that work on an event begins.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        with valkey_errors():
            deaths, suspect = await self._begin(keys=[self._key], args=[event_id, self._incarnation])
        return Attempt(int(deaths), bool(suspect))

    async def alone(self, event_id: str, deaths: int) -> None:
        """Record that an event now runs alone, after so many deaths. Raises as `begin`."""
        with valkey_errors():
            await self._valkey.hset(self._key, event_id, f"{self._incarnation}|1|{deaths}")

    async def end(self, event_id: str) -> None:
        """Forget an event: there is a verdict. Raises as `begin`."""
        with valkey_errors():
            await self._valkey.hdel(self._key, event_id)
