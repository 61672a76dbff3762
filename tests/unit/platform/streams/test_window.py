"""The window, ordered acknowledgements, and the gate."""

import asyncio

from fetalmlops.platform.streams.window import Gate, OrderedAcks, Window


def test_acknowledges_in_order_of_delivery() -> None:
    async def main() -> list[int]:
        acknowledged: list[int] = []

        async def acknowledge(item: int) -> None:
            await asyncio.sleep(0)
            acknowledged.append(item)

        acks = OrderedAcks(acknowledge)
        done = [acks.deliver("p0", number) for number in range(5)]
        other = acks.deliver("p1", 100)
        await done[2]()
        await done[1]()
        assert acknowledged == []
        await other()
        await done[0]()
        assert acknowledged == [100, 0, 1, 2]
        await asyncio.gather(done[4](), done[3]())
        return acknowledged

    assert asyncio.run(main()) == [100, 0, 1, 2, 3, 4]


def test_window_bounds_count_and_bytes_but_lets_one_through() -> None:
    async def main() -> None:
        window = Window(5, 100)
        for _ in range(4):
            await window.enter(1000)
        blocked = asyncio.create_task(window.enter(1))
        await asyncio.sleep(0.01)
        assert not blocked.done()
        await window.leave(1000)
        await blocked
        await window.enter(0)
        sixth = asyncio.create_task(window.enter(0))
        await asyncio.sleep(0.01)
        assert not sixth.done()
        await window.leave(1)
        await sixth
        for size in (1000, 1000, 1000, 0, 0):
            await window.leave(size)
        await asyncio.wait_for(window.drained(), 1)

    asyncio.run(main())


def test_one_long_event_leaves_room_for_others() -> None:
    async def main() -> None:
        window = Window(16, 100)
        await window.enter(10**9)
        await asyncio.wait_for(window.enter(20), 1)

    asyncio.run(main())


def test_gate_gives_one_the_place_for_itself() -> None:
    async def main() -> list[str]:
        gate, log = Gate(), []

        async def together(name: str) -> None:
            async with gate.together():
                log.append(f"+{name}")
                await asyncio.sleep(0.02)
                log.append(f"-{name}")

        async def alone(name: str) -> None:
            async with gate.alone():
                log.append(f"+{name}")
                await asyncio.sleep(0.01)
                log.append(f"-{name}")

        tasks = [asyncio.create_task(together("a")), asyncio.create_task(together("b"))]
        await asyncio.sleep(0.005)
        tasks += [asyncio.create_task(alone("X")), asyncio.create_task(alone("Y")), asyncio.create_task(together("c"))]
        await asyncio.gather(*tasks)
        return log

    log = asyncio.run(main())
    assert log[:4] == ["+a", "+b", "-a", "-b"]
    assert log[4:8] in (["+X", "-X", "+Y", "-Y"], ["+Y", "-Y", "+X", "-X"])
    assert log[8:] == ["+c", "-c"]
