from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.models.bundle import Bundle
from fetalmlops.domain.models.check import check_engine, check_pipeline
from fetalmlops.domain.models.engine import Engine, EngineOutput
from fetalmlops.domain.models.manifest import Precision


class StillEngine:
    """Answers every frame with equal logits, as the tiny bundle's reference expects."""

    name = "still"
    precision = Precision.F32

    def __init__(self, **changed: np.ndarray) -> None:
        self._changed = changed

    def infer(self, batch: np.ndarray) -> EngineOutput:
        count = len(batch)
        still = EngineOutput(
            logits=np.zeros((count, 6), np.float32),
            brain_logits=np.zeros((count, 4), np.float32),
            embedding=np.zeros((count, 4), np.float32),
            features=np.zeros((count, 8), np.float32),
            maps=np.zeros((count, 6, 2, 2), np.float32),
        )
        return replace(still, **self._changed)


def test_an_engine_that_agrees_passes(tiny_bundle: Bundle) -> None:
    engine: Engine = StillEngine()
    assert check_engine(tiny_bundle, engine) < 1e-6


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"logits": np.array([[1, 0, 0, 0, 0, 0]] * 2, np.float32)}, "reference"),
        ({"brain_logits": np.array([[0, 0, 0, 0.5]] * 2, np.float32)}, "reference"),
        ({"logits": np.zeros((2, 5), np.float32)}, "bundle"),
        ({"embedding": np.zeros((2, 5), np.float32)}, "bundle"),
        ({"features": np.zeros((2, 5), np.float32)}, "bundle"),
        ({"maps": np.zeros((2, 5, 2, 2), np.float32)}, "bundle"),
        ({"embedding": np.full((2, 4), np.nan, np.float32)}, "bundle"),
    ],
)
def test_an_engine_that_differs_is_refused(tiny_bundle: Bundle, changed: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_engine(tiny_bundle, StillEngine(**changed))
    assert caught.value.reason == reason


def test_a_bundle_of_a_pipeline_that_does_not_run_is_refused_by_name(tiny_bundle: Bundle) -> None:
    check_pipeline(tiny_bundle.manifest, {"f" * 64, tiny_bundle.manifest.pipeline.digest})
    with pytest.raises(ContractError, match="plain") as caught:
        check_pipeline(tiny_bundle.manifest, {"f" * 64})
    assert caught.value.reason == "pipeline"
