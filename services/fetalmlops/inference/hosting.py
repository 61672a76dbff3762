"""Which model serves: load, prove, swap without a gap, and let the old one finish."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.decision import decision_digest
from fetalmlops.domain.models.manifest import Precision
from fetalmlops.inference.batching import Batcher, OverloadedError
from fetalmlops.inference.requests import MAX_CHUNK_FRAMES
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine
    from fetalmlops.platform.settings import InferenceSettings

    EngineFactory = Callable[[Bundle], Engine]

__all__ = ["ModelHost", "ServedModel"]

_LEAST_CALLS: Final = 16
_log = get_logger(__name__)


class ServedModel:
    """A bundle with its engine and the queue before it.

    Parameters
    ----------
    bundle
        The bundle.
    engine
        The engine that runs it.
    batcher
        The queue.
    max_calls
        Most calls at once: each may hold a message of frames that are not yet prepared.
    """

    def __init__(self, bundle: Bundle, engine: Engine, batcher: Batcher, max_calls: int) -> None:
        self.bundle = bundle
        self.engine = engine
        self.batcher = batcher
        self.decision_digest = decision_digest(bundle.manifest.decision)
        self._max_calls = max_calls
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[ServedModel]:
        """Keep the model alive for one call; raises `OverloadedError` if there are too many."""
        if self._calls >= self._max_calls:
            raise OverloadedError(self.batcher.backlog_s)
        self._calls += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def retire(self) -> None:
        """Wait for the calls that hold it, then free it."""
        await self._idle.wait()
        await self.batcher.close()


class ModelHost:
    """Holds the model that serves.

    Parameters
    ----------
    settings
        Settings of the service.
    build_engine
        Makes an engine for a bundle; default: OpenVINO on the CPU, as the settings tell.
    """

    def __init__(self, settings: InferenceSettings, build_engine: EngineFactory | None = None) -> None:
        self._settings = settings
        self._build_engine = build_engine or self._openvino
        self._current: ServedModel | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._swapping = asyncio.Lock()

    @property
    def current(self) -> ServedModel | None:
        """The model that serves; None before the first."""
        return self._current

    async def swap(self, bundle: Bundle) -> None:
        """Let a bundle serve from now on. Calls that have begun finish on the model they began with.

        Raises
        ------
        ContractError
            If the bundle fails the technical gate; what served before goes on serving.
        SettingsError
            If this machine cannot run it as the settings tell; likewise.
        """
        async with self._swapping:
            if self._current and self._current.bundle.digest == bundle.digest:
                return
            engine = await asyncio.to_thread(self._proven_engine, bundle)
            batcher = Batcher(
                engine.infer,
                max_batch=self._settings.max_batch,
                wait_s=self._settings.batch_wait_ms / 1000,
                queue_frames=self._settings.queue_frames,
            )
            max_calls = max(_LEAST_CALLS, self._settings.queue_frames // MAX_CHUNK_FRAMES)
            replaced, self._current = self._current, ServedModel(bundle, engine, batcher, max_calls)
        _log.info(
            "model_serves", bundle=bundle.manifest.name, version=bundle.manifest.version, digest=bundle.digest[:12]
        )
        if replaced:
            task = asyncio.create_task(replaced.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Finish what is in work, then free all engines."""
        current, self._current = self._current, None
        if current:
            await current.retire()
        await asyncio.gather(*self._retiring)

    def _proven_engine(self, bundle: Bundle) -> Engine:
        engine = self._build_engine(bundle)
        check_engine(bundle, engine)
        return engine

    def _openvino(self, bundle: Bundle) -> Engine:
        precision = Precision(self._settings.precision) if self._settings.precision else None
        return OpenVinoEngine(bundle, threads=self._settings.threads, precision=precision)
