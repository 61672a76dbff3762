"""Claims: one current result a content and role, however often an instance or its events come again.

A claim is ``<state>|<ce_id>`` under the content id and role: ``claimed`` before a result is published, ``published`` once the
broker has acknowledged it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from fetalmlops.domain.contracts.planes import Role

__all__ = ["Claim", "Claims"]

_KEEP_S = 400 * 86_400
_CLAIM = """
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 1, 10) == 'published|' then return old end
redis.call('SET', KEYS[1], 'claimed|' .. ARGV[1], 'EX', ARGV[2])
return old or ''
"""


@dataclass(frozen=True)
class Claim:
    """What stood before.

    Parameters
    ----------
    published
        Whether a result was published: nothing is to be published again.
    supersedes
        ``ce_id`` of another result that was claimed and perhaps published: ours replaces it.
    """

    published: bool
    supersedes: str | None = None


class Claims:
    """The claims of all instances.

    Parameters
    ----------
    valkey
        Connection.
    """

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._claim = valkey.register_script(_CLAIM)

    async def published(self, content_id: str, role: Role) -> bool:
        """Return whether a result was published.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        with valkey_errors():
            value = await self._valkey.get(_key(content_id, role))
        return _is_published(value)

    async def published_among(self, content_ids: Sequence[str], role: Role) -> set[str]:
        """Return those contents of which a result was published. Raises as `published`."""
        if not content_ids:
            return set()
        with valkey_errors():
            values = await self._valkey.mget([_key(content_id, role) for content_id in content_ids])
        return {content_id for content_id, value in zip(content_ids, values, strict=True) if _is_published(value)}

    async def claim(self, content_id: str, role: Role, event_id: str) -> Claim:
        """Claim the result of a content for an event. Raises as `published`."""
        with valkey_errors():
            before = await self._claim(keys=[_key(content_id, role)], args=[event_id, _KEEP_S])
        state, _, holder = bytes(before).decode().partition("|")
        if state == "published":
            return Claim(published=True)
        return Claim(published=False, supersedes=holder if holder and holder != event_id else None)

    async def confirm(self, content_id: str, role: Role, event_id: str) -> None:
        """Note that the claimed event is published. Raises as `published`."""
        with valkey_errors():
            await self._valkey.set(_key(content_id, role), f"published|{event_id}", ex=_KEEP_S)


def _is_published(value: object) -> bool:
    return isinstance(value, bytes) and value.startswith(b"published|")


def _key(content_id: str, role: Role) -> str:
    return f"claim:{content_id}:{role}"
