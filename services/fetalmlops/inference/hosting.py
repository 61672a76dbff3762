"""Which models serve: load, prove, swap without a gap, and let the old one finish.

A champion and a shadow are served side by side. The shadow's frames run while none of the champion's waits or runs.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.models.check import check_engine
from fetalmlops.domain.models.decision import decision_digest
from fetalmlops.inference.batching import Batcher
from fetalmlops.inference.warming import warm
from fetalmlops.platform.energy.recording import process_meter
from fetalmlops.platform.engines.choosing import make_engine
from fetalmlops.platform.service import EXIT_RETRY
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.domain.models.engine import Engine
    from fetalmlops.platform.settings import InferenceSettings

    EngineFactory = Callable[[Bundle], Engine]

__all__ = ["ModelHost", "ServedModel"]

_LEAST_CALLS: Final = 16
_ON_GPU: Final = " cuda"
"""How the name of an engine ends that runs on a GPU."""
# A run of the shadow that has begun is not broken off: it is short, so that the champion hardly waits for it.
_SHADOW_BATCH: Final = 4
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
        Most calls at once.
    role
        In which role it serves.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, batcher: Batcher, max_calls: int, role: Role = Role.CHAMPION
    ) -> None:
        self.bundle = bundle
        self.role = role
        self.engine = engine
        self.batcher = batcher
        self.decision_digest = decision_digest(bundle.manifest.decision)
        self._max_calls = max_calls
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[ServedModel]:
        """Keep the model alive for one call; raises `OverloadedError` (see `Batcher`) if there are too many."""
        if self._calls >= self._max_calls:
            raise self.batcher.refusal()
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
    """Holds the model of each role.

    Parameters
    ----------
    settings
        Settings of the service.
    build_engine
        Makes an engine for a bundle; default: the one that the settings ask for.
    """

    def __init__(self, settings: InferenceSettings, build_engine: EngineFactory | None = None) -> None:
        self._settings = settings
        self._build_engine = build_engine or partial(make_engine, settings=settings)
        self._serving: dict[Role, ServedModel] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._swapping = asyncio.Lock()

    @property
    def current(self) -> ServedModel | None:
        """The champion; None before the first."""
        return self.model(Role.CHAMPION)

    def model(self, role: Role) -> ServedModel | None:
        """Return the model that serves in a role; None where none does."""
        return self._serving.get(role)

    async def swap(self, bundle: Bundle, role: Role = Role.CHAMPION) -> None:
        """Let a bundle serve from now on. Calls that have begun finish on the model they began with.

        Raises
        ------
        ContractError
            If the bundle fails the technical gate; what served before goes on serving.
        SettingsError
            If this machine cannot run it as the settings tell; likewise.
        """
        async with self._swapping:
            current = self.model(role)
            if current and current.bundle.digest == bundle.digest:
                return
            engine, seconds_per_frame = await asyncio.to_thread(self._proven_engine, bundle)
            batcher = self._batcher(engine, role, seconds_per_frame)
            max_calls = max(_LEAST_CALLS, self._settings.queue_frames)
            self._serving[role] = ServedModel(bundle, engine, batcher, max_calls, role)
        manifest = bundle.manifest
        _log.info("model_serves", role=role, bundle=manifest.name, version=manifest.version, digest=bundle.digest[:12])
        self._let_go(current)

    async def end(self, role: Role) -> None:
        """Let no model serve in a role from now on. Calls that have begun finish."""
        async with self._swapping:
            self._let_go(self._serving.pop(role, None))
        _log.info("model_ended", role=role)

    async def close(self) -> None:
        """Finish what is in work, then free all engines."""
        for role in list(self._serving):
            self._let_go(self._serving.pop(role))
        await asyncio.gather(*self._retiring)

    def _let_go(self, model: ServedModel | None) -> None:
        if model:
            task = asyncio.create_task(model.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _batcher(self, engine: Engine, role: Role, seconds_per_frame: float) -> Batcher:
        settings, looks_on = self._settings, role is not Role.CHAMPION
        return Batcher(
            engine.infer,
            max_batch=min(settings.max_batch, _SHADOW_BATCH) if looks_on else settings.max_batch,
            wait_s=settings.batch_wait_ms / 1000,
            queue_frames=settings.queue_frames,
            seconds_per_frame=seconds_per_frame,
            clock=time.thread_time if settings.threads == 1 else time.process_time,
            role=role,
            turn=self._champion_idle if looks_on else None,
            hang_s=settings.hang_s,
            hung=_end_process,
        )

    async def _champion_idle(self) -> None:
        # Asked anew each time: it may have been swapped meanwhile.
        while (champion := self.current) and not champion.batcher.idle.is_set():
            await champion.batcher.idle.wait()

    def _proven_engine(self, bundle: Bundle) -> tuple[Engine, float]:
        engine = self._build_engine(bundle)
        check_engine(bundle, engine)
        if engine.name.endswith(_ON_GPU):
            process_meter().use_gpu()
        return engine, warm(engine, bundle.manifest.input, self._settings.max_batch)


def _end_process() -> None:
    """End this process, which cannot get rid of a thread that hangs: whoever started it starts it again."""
    _log.critical("engine_hangs")
    os._exit(EXIT_RETRY)
