"""Trust in scanners, kept in Valkey and shared by all workers.

``trust:<scanner>:<rules>`` holds the state; ``trust:<scanner>:<rules>:<content id>`` what was decided and found of one content,
so that a repeated attempt gets the same verdict and counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import WatchError

from fetalmlops.domain.deid.pixels.trust import (
    CheckOutcome,
    TextVerdict,
    TrustPolicy,
    TrustState,
    decide,
    is_sampled,
    transition,
)
from fetalmlops.platform.keyvalue import valkey_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from fetalmlops.domain.contracts.identifiers import PseudonymKey

__all__ = ["ValkeyTrust"]

_KEEP_CONTENT_S = 30 * 86_400


class ValkeyTrust:
    """The trust that scanners have earned under one set of rules.

    Parameters
    ----------
    valkey
        Connection that returns bytes.
    key
        Decides the sample.
    rules
        Digest of the rules: under others, trust has to be earned anew.
    policy
        What earns trust.
    """

    def __init__(self, valkey: Redis, key: PseudonymKey, rules: str = "", policy: TrustPolicy | None = None) -> None:
        self._valkey = valkey
        self._key = key
        self._rules = rules
        self._policy = policy or TrustPolicy()

    def under(self, rules: str) -> ValkeyTrust:
        """Return the trust that scanners have earned under other rules."""
        return ValkeyTrust(self._valkey, self._key, rules, self._policy)

    async def state(self, scanner: str) -> TrustState:
        """Return what is known of a scanner.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        with valkey_errors():
            return _decode(await self._valkey.get(self._place(scanner)))

    async def verdict(self, scanner: str, content_id: str) -> TextVerdict:
        """Return whether a content is to be checked: the same at every attempt, unless the scanner lost its trust since.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        place = f"{self._place(scanner)}:{content_id}"
        state = await self.state(scanner)
        verdict = decide(state, self._policy, sampled=is_sampled(self._key, content_id, self._policy))
        with valkey_errors():
            known = _text(await self._valkey.hget(place, "verdict"))
            if known and (known != TextVerdict.TRUSTED or not verdict.checks):
                return TextVerdict(known)
            async with self._valkey.pipeline(transaction=True) as pipeline:
                pipeline.hset(place, "verdict", verdict.value)
                pipeline.expire(place, _KEEP_CONTENT_S)
                await pipeline.execute()
        return verdict

    async def record(self, scanner: str, content_id: str, outcome: CheckOutcome) -> TrustState:
        """Count the outcome of a check, once a content, and return the scanner's state after it.

        Raises
        ------
        TransientError
            If Valkey is away.
        """
        place = self._place(scanner)
        seen = f"{place}:{content_id}"
        with valkey_errors():
            async with self._valkey.pipeline(transaction=True) as pipeline:
                while True:
                    await pipeline.watch(place, seen)
                    state = _decode(await pipeline.get(place))
                    if _text(await pipeline.hget(seen, "outcome")) == outcome:
                        return state
                    after = transition(state, outcome)
                    pipeline.multi()  # type: ignore[no-untyped-call]
                    pipeline.set(place, msgspec.json.encode(after))
                    pipeline.hset(seen, "outcome", outcome.value)
                    pipeline.expire(seen, _KEEP_CONTENT_S)
                    try:
                        await pipeline.execute()
                    except WatchError:  # another worker was faster: its count is in the state now
                        continue
                    return after

    def _place(self, scanner: str) -> str:
        return f"trust:{scanner}:{self._rules}"


def _decode(data: bytes | str | None) -> TrustState:
    return msgspec.json.decode(data, type=TrustState) if data else TrustState()


def _text(data: bytes | str | None) -> str:
    return data.decode() if isinstance(data, bytes) else data or ""
