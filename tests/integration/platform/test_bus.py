"""The publisher where the broker is not: it waits, or gives up in time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.settings import KafkaSettings


@pytest.fixture
def silent() -> Iterator[KafkaSettings]:
    """A broker that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield KafkaSettings(bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}")


def test_it_gives_up_in_time_though_another_waits_for_ever(silent: KafkaSettings) -> None:
    asyncio.run(give_up_beside_one_that_waits(silent))


async def give_up_beside_one_that_waits(silent: KafkaSettings) -> None:
    health = Health("test")
    publisher = Publisher(silent, health)
    waiting = asyncio.create_task(publisher.start())
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    with pytest.raises(TransientError, match="Expected the broker to take a record of a-topic") as caught:
        await publisher.publish_raw("a-topic", b"key", b"value", [], give_up_s=0.5)
    assert caught.value.everyone
    assert time.monotonic() - begun < 10
    assert not health.ready
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
