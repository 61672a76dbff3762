"""The service with the torch engine says what it says with OpenVINO, and names what said it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from fetalmlops.platform.engines.choosing import make_engine
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.settings import InferenceSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

pytestmark = pytest.mark.torch


async def test_both_engines_serve_the_same_results(serving: Callable, frames: np.ndarray) -> None:
    settings, numbers = InferenceSettings(engine="torch", max_batch=4), [*range(1, len(frames) + 1)]
    async with (
        serving() as (_, openvino),
        serving(build_engine=partial(make_engine, settings=settings)) as (_, torch),
        InferenceClient(openvino) as first,
        InferenceClient(torch) as second,
    ):
        expected, found = await first.classify([frames], numbers), await second.classify([frames], numbers)
    assert found.model.engine.startswith("torch ")
    assert found.model.engine.endswith(" cpu")
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert (found.plane, found.decision, found.best_frame) == (expected.plane, expected.decision, expected.best_frame)
