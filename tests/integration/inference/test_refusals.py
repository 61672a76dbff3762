"""A call that is refused before its last message tells why, however far the caller has got."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.errors import PermanentError
from fetalmlops.platform.inference.client import InferenceClient

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_a_refusal_while_frames_are_being_sent_keeps_its_reason(serving: Callable) -> None:
    frames = np.zeros((16, 512, 512), np.uint8)
    async with serving() as (_, target), InferenceClient(target, timeout_s=60) as client:

        async def ask() -> object:
            return await client.classify([frames] * 4, [*range(1, 65)], pipeline_digest="0" * 64)

        found = await asyncio.gather(*(ask() for _ in range(16)), return_exceptions=True)
    assert [error.reason for error in found if isinstance(error, PermanentError)] == ["pipeline"] * len(found)
