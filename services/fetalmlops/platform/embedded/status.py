"""How the embedded system fares: one line a process, from its supervisor, its own report and the broker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import psutil

from fetalmlops.domain.contracts.topics import FRAMES_NORMALIZED
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.embedded.configuration import recorded_ports
from fetalmlops.platform.embedded.journal import read_journal
from fetalmlops.platform.embedded.programs import OPTIONAL, PROGRAMS, SHADOW
from fetalmlops.platform.embedded.readiness import Readiness, fetch_readiness
from fetalmlops.platform.lag import STAGE_INPUTS, fetch_lags
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fetalmlops.platform.embedded.supervision import ProcessState
    from fetalmlops.platform.embedded.system import EmbeddedSystem
    from fetalmlops.platform.settings import Settings

__all__ = ["ProcessStatus", "SystemStatus", "fetch_status"]

_TIMEOUT_MS = 2000


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one process fares."""

    name: str
    """Name of the process."""
    health: str
    """``ready``, ``waiting``, ``silent`` (runs and does not answer), ``restarting``, ``stopped``, or ``elsewhere``."""
    waiting: tuple[str, ...] = ()
    """What it waits for."""
    pid: int = 0
    """Process id; 0 while it does not run."""
    port: int | None = None
    """Port that it serves; None where it serves none but its health endpoint."""
    memory_bytes: int | None = None
    """Resident memory of it and its children."""
    lag: int | None = None
    """Events that it has not handled yet; None where it has no queue, or the broker is away."""
    last_event_ms: int | None = None
    """When it last handled an event, in ms since 1970."""
    restarts: int = 0
    """Starts after the first since `fetalmlops up`."""


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the embedded system fares."""

    home: str
    """The state folder."""
    running: bool
    """Whether it has been started."""
    ready: bool
    """Whether every process is able to work."""
    processes: tuple[ProcessStatus, ...] = ()
    """Each process, in the order of the flow."""


def fetch_status(system: EmbeddedSystem) -> SystemStatus:
    """Ask everyone how the system fares; who does not answer is reported so."""
    home = str(system.layout.home)
    if not system.layout.exists() or not system.supervisor.is_running():
        return SystemStatus(home=home, running=False, ready=False)
    settings = load_settings(system.layout.home)
    ports = recorded_ports(system.layout)
    states = system.supervisor.states()
    journal = read_journal(system.supervisor.log)
    programs = (*PROGRAMS, *(name for name in OPTIONAL if name in states))
    with ThreadPoolExecutor(len(programs) + 1) as pool:
        lags = pool.submit(_lags, settings)
        answers = dict(
            zip(programs, pool.map(lambda name: fetch_readiness(name, settings, ports), programs), strict=True)
        )
        processes = tuple(
            _process(name, states.get(name), answers[name], ports, lags.result(), journal.restarts(name))
            for name in programs
        )
    ready = all(process.health in {"ready", "elsewhere"} for process in processes)
    return SystemStatus(home=home, running=True, ready=ready, processes=processes)


def _process(
    name: str,
    state: ProcessState | None,
    answer: Readiness,
    ports: Mapping[str, int],
    lags: Mapping[str, int],
    restarts: int,
) -> ProcessStatus:
    return ProcessStatus(
        name=name,
        health=_health(state, answer),
        waiting=answer.waiting,
        pid=state.pid if state else 0,
        port=ports.get(name) if state else None,
        memory_bytes=_memory(state.pid) if state and state.alive else None,
        lag=lags.get(name),
        last_event_ms=answer.last_event_ms,
        restarts=restarts,
    )


def _health(state: ProcessState | None, answer: Readiness) -> str:
    if state is None:
        return "elsewhere" if answer.ready else "silent"
    if not state.alive:
        return "restarting" if state.state in {"BACKOFF", "EXITED"} else "stopped"
    if answer.ready:
        return "ready"
    return "waiting" if answer.waiting else "silent"


def _memory(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        return int(sum(member.memory_info().rss for member in [process, *process.children(recursive=True)]))
    except psutil.Error:
        return None


def _lags(settings: Settings) -> dict[str, int]:
    try:
        inputs = {**STAGE_INPUTS, SHADOW: FRAMES_NORMALIZED} if settings.inference.shadow else STAGE_INPUTS
        return fetch_lags(settings.kafka, inputs, timeout_ms=_TIMEOUT_MS)
    except TransientError:
        return {}
