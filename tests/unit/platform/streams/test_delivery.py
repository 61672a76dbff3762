"""The deadline of an attempt stands still while an event waits for a place that others hold."""

from __future__ import annotations

import asyncio

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceReceived
from fetalmlops.platform.streams import Delivery, Record

RECORD, ENVELOPE = Record("t", 0, 0, None, None, []), Envelope(id="0", type="t", source="test", time_ms=0)


def test_what_is_off_the_clock_lengthens_the_deadline_by_itself() -> None:
    async def run() -> None:
        async with asyncio.timeout(1000) as limit:
            delivery: Delivery[InstanceReceived] = Delivery(RECORD, ENVELOPE, None, limit)  # type: ignore[arg-type]
            before = limit.when()
            async with delivery.off_the_clock():
                assert limit.when() is None
                await asyncio.sleep(0.02)
            after = limit.when()
            assert before is not None
            assert after is not None
            assert after - before >= 0.02

    asyncio.run(run())


def test_without_a_deadline_there_is_nothing_to_lengthen() -> None:
    async def run() -> None:
        delivery: Delivery[InstanceReceived] = Delivery(RECORD, ENVELOPE, None)  # type: ignore[arg-type]
        async with delivery.off_the_clock():
            pass

    asyncio.run(run())
