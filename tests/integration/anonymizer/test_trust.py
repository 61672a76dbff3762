"""Trust in a real Valkey: shared by workers, counted once a content, lost by one finding."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid.pixels.trust import CheckOutcome, TextVerdict, TrustPolicy, TrustState, is_sampled
from fetalmlops.platform.deid.trust import ValkeyTrust
from fetalmlops.platform.keyvalue import open_valkey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fetalmlops.platform.settings import Settings

KEY = PseudonymKey("tests", bytes(32))
POLICY = TrustPolicy(clean_images=4, sample_one_in=3)
CLEAN, FINDING = CheckOutcome.CLEAN, CheckOutcome.FINDING


def contents(count: int, *, sampled: bool) -> list[str]:
    """Return content ids that are in the sample, or that are not."""
    found: list[str] = []
    while len(found) < count:
        content = uuid.uuid4().hex
        if is_sampled(KEY, content, POLICY) == sampled:
            found.append(content)
    return found


def with_trust(settings: Settings, test: Callable[[ValkeyTrust, ValkeyTrust, str], Awaitable[None]]) -> None:
    """Run a test with two workers on one set of rules, and a scanner of its own."""

    async def run() -> None:
        one, other = open_valkey(settings), open_valkey(settings)
        try:
            workers = (ValkeyTrust(client, KEY, "rules", POLICY) for client in (one, other))
            await test(*workers, uuid.uuid4().hex)
        finally:
            await one.aclose()
            await other.aclose()

    asyncio.run(run())


def test_trust_is_earned_together_and_lost_by_one_finding(embedded: Settings) -> None:
    async def test(one: ValkeyTrust, other: ValkeyTrust, scanner: str) -> None:
        early, plain, later = contents(3, sampled=False)
        (sampled,) = contents(1, sampled=True)
        assert await one.verdict(scanner, early) is TextVerdict.UNTRUSTED_CHECKED
        for number, content in enumerate(contents(4, sampled=False)):
            await (one, other)[number % 2].record(scanner, content, CLEAN)
        assert await other.state(scanner) == TrustState(clean=4)
        assert await one.verdict(scanner, plain) is TextVerdict.TRUSTED
        assert await other.verdict(scanner, sampled) is TextVerdict.SAMPLED_CHECKED
        # A repeated attempt gets the verdict of the first one, whatever was earned since.
        assert await other.verdict(scanner, early) is TextVerdict.UNTRUSTED_CHECKED
        assert await other.verdict(uuid.uuid4().hex, later) is TextVerdict.UNTRUSTED_CHECKED
        assert await other.record(scanner, sampled, FINDING) == TrustState(clean=0, findings=1)
        # One that was trusted before is not, once the trust is lost.
        assert await one.verdict(scanner, plain) is TextVerdict.UNTRUSTED_CHECKED
        assert await one.verdict(scanner, later) is TextVerdict.UNTRUSTED_CHECKED

    with_trust(embedded, test)


def test_a_content_counts_once(embedded: Settings) -> None:
    async def test(one: ValkeyTrust, other: ValkeyTrust, scanner: str) -> None:
        content = uuid.uuid4().hex
        for worker in (one, other, one):
            await worker.record(scanner, content, CLEAN)
        assert await one.state(scanner) == TrustState(clean=1)

    with_trust(embedded, test)


def test_no_count_is_lost_where_many_workers_count_at_once(embedded: Settings) -> None:
    async def test(one: ValkeyTrust, other: ValkeyTrust, scanner: str) -> None:
        counts = [worker.record(scanner, uuid.uuid4().hex, CLEAN) for worker in (one, other) for _ in range(20)]
        await asyncio.gather(*counts)
        assert await one.state(scanner) == TrustState(clean=40)

    with_trust(embedded, test)


def test_other_rules_have_to_earn_it_anew(embedded: Settings) -> None:
    async def test(one: ValkeyTrust, other: ValkeyTrust, scanner: str) -> None:
        for content in contents(4, sampled=False):
            await one.record(scanner, content, CLEAN)
        client = open_valkey(embedded)
        (content,) = contents(1, sampled=False)
        assert (
            await ValkeyTrust(client, KEY, "others", POLICY).verdict(scanner, content) is TextVerdict.UNTRUSTED_CHECKED
        )
        await client.aclose()
        assert await other.verdict(scanner, content) is TextVerdict.TRUSTED

    with_trust(embedded, test)
