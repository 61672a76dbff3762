"""The technical gate of a promotion: what the inference service will ask of a bundle is asked here, before it is told to."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.domain.learning.gates import GateStatus
from fetalmlops.domain.learning.promotion import Gate
from fetalmlops.domain.models.check import check_engine, check_pipeline
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.engines.choosing import make_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine
    from fetalmlops.platform.settings import Settings

__all__ = ["technical_gates"]

T = TypeVar("T")

_RUNS: Final = 40
_PERCENTILE: Final = 95


def technical_gates(bundle: Bundle, settings: Settings, latency_p95_ms: float) -> list[Gate]:
    """Load a bundle as the settings would serve it, and compare it with its reference outputs and the latency it may have.

    Parameters
    ----------
    bundle
        A bundle whose digests were verified.
    settings
        Its pipeline must be one of ``normalizer.pipelines``; engine, precision and threads are those of ``inference``.
    latency_p95_ms
        Most time of an image's inference, 95th percentile, in milliseconds.
    """
    manifest = bundle.manifest
    gates = [Gate("digests", GateStatus.PASSED, f"{len(manifest.files)} files are the manifest's")]
    produced = {find_pipeline(name).digest for name in settings.normalizer.pipelines}
    gates.append(_tried("pipeline", lambda: check_pipeline(manifest, produced), lambda _: manifest.pipeline.name)[0])
    # Apart, for mypy takes the engine for one that may be None otherwise.
    loaded = _tried("engine", partial(make_engine, bundle, settings.inference), _described)
    gates.append(loaded[0])
    engine = loaded[1]
    if engine is None:
        return gates
    gate, difference = _tried(
        "reference outputs", lambda: check_engine(bundle, engine), lambda found: f"reproduced within {found:.2g}"
    )
    gates.append(gate)
    return gates if difference is None else [*gates, _latency(bundle, engine, latency_p95_ms)]


def _described(engine: Engine) -> str:
    return f"{engine.name}, {engine.precision}"


def _tried(name: str, check: Callable[[], T], found: Callable[[T], str]) -> tuple[Gate, T | None]:
    """Return how a check ended, in the words of `found`, and what it returned; None if it failed."""
    try:
        result = check()
    except FetalMLOpsError as error:
        return Gate(name, GateStatus.FAILED, str(error)), None
    except Exception as error:  # noqa: BLE001 - whatever an engine raises on a network that is none
        why = f"Expected a network that an engine can run, got {type(error).__name__}; rebuild the bundle"
        return Gate(name, GateStatus.FAILED, why), None
    return Gate(name, GateStatus.PASSED, found(result)), result


def _latency(bundle: Bundle, engine: Engine, limit_ms: float) -> Gate:
    batch = prepare(bundle.reference.frames[:1], bundle.manifest.input).batch
    times = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        engine.infer(batch)
        times.append(1000 * (time.perf_counter() - began))
    found = float(np.percentile(times, _PERCENTILE))
    status = GateStatus.PASSED if found <= limit_ms else GateStatus.FAILED
    return Gate(
        "latency", status, f"{found:.1f} ms for one image here (95th percentile of {_RUNS}), at most {limit_ms:g} ms"
    )
