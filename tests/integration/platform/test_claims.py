"""Claims in a real Valkey: which result of a content is published, whoever died on the way."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.claims import Claim, Claims
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.settings import Settings

FREE = Claim(published=False)
PUBLISHED = Claim(published=True)


@pytest.fixture
def content() -> str:
    return uuid.uuid4().hex


def run(settings: Settings, test: Callable[[Claims, Redis], Awaitable[None]]) -> None:
    async def main() -> None:
        valkey = open_valkey(settings)
        try:
            await test(Claims(valkey), valkey)
        finally:
            await valkey.aclose()

    asyncio.run(main())


def test_what_is_published_is_claimed_by_nobody(embedded: Settings, content: str) -> None:
    async def test(claims: Claims, _: Redis) -> None:
        assert await claims.claim(content, Role.CHAMPION, "first") == FREE
        assert not await claims.published(content, Role.CHAMPION)
        await claims.confirm(content, Role.CHAMPION, "first")
        assert await claims.published(content, Role.CHAMPION)
        for event in ("first", "second"):
            assert await claims.claim(content, Role.CHAMPION, event) == PUBLISHED
        assert await claims.claim(content, Role.SHADOW, "shadow") == FREE

    run(embedded, test)


def test_a_claim_that_was_never_confirmed_is_taken_again(embedded: Settings, content: str) -> None:
    """Its holder may have died before or after it published: the same event repeats it, another one replaces it."""

    async def test(claims: Claims, valkey: Redis) -> None:
        await claims.claim(content, Role.CHAMPION, "first")
        restarted = Claims(valkey)
        assert await restarted.claim(content, Role.CHAMPION, "first") == FREE
        assert await restarted.claim(content, Role.CHAMPION, "second") == Claim(published=False, supersedes="first")
        assert await restarted.claim(content, Role.CHAMPION, "third") == Claim(published=False, supersedes="second")

    run(embedded, test)


def test_of_many_at_once_each_replaces_another(embedded: Settings, content: str) -> None:
    async def test(claims: Claims, _: Redis) -> None:
        events = [f"event-{number}" for number in range(30)]
        found = await asyncio.gather(*(claims.claim(content, Role.CHAMPION, event) for event in events))
        replaced = [claim.supersedes for claim in found if claim.supersedes]
        assert len(replaced) == len(set(replaced)) == len(events) - 1

    run(embedded, test)


def test_many_contents_are_asked_at_once(embedded: Settings) -> None:
    ended, claimed, unknown = (uuid.uuid4().hex for _ in range(3))

    async def test(claims: Claims, _: Redis) -> None:
        await claims.confirm(ended, Role.CHAMPION, "event")
        await claims.claim(claimed, Role.CHAMPION, "event")
        assert await claims.published_among([ended, claimed, unknown], Role.CHAMPION) == {ended}
        assert await claims.published_among([ended], Role.SHADOW) == set()
        assert await claims.published_among([], Role.CHAMPION) == set()

    run(embedded, test)


def test_a_claim_outlives_every_event_that_could_come_again(embedded: Settings, content: str) -> None:
    async def test(claims: Claims, valkey: Redis) -> None:
        for act in (claims.claim, claims.confirm):
            await act(content, Role.CHAMPION, "event")
            assert await valkey.ttl(f"claim:{content}:{Role.CHAMPION}") > 365 * 86_400

    run(embedded, test)


def test_without_valkey_nothing_is_claimed(embedded: Settings, content: str) -> None:
    async def test(claims: Claims, _: Redis) -> None:
        for attempt in (
            claims.published(content, Role.CHAMPION),
            claims.published_among([content], Role.CHAMPION),
            claims.claim(content, Role.CHAMPION, "event"),
            claims.confirm(content, Role.CHAMPION, "event"),
        ):
            with pytest.raises(TransientError) as error:
                await attempt
            assert (error.value.dependency, error.value.everyone) == ("valkey", True)

    run(embedded.model_copy(update={"valkey": embedded.valkey.model_copy(update={"port": 1})}), test)
