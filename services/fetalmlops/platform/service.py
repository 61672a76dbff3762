"""The life of a process: settings, logs, traces, health, signals, and an exit code that says why it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import FetalMLOpsError, SettingsError, TransientError
from fetalmlops.platform.energy.recording import EnergyRecorder
from fetalmlops.platform.health import Health, HealthServer
from fetalmlops.platform.settings import load_settings
from fetalmlops.platform.telemetry import get_logger, set_up_telemetry, shut_down_telemetry
from fetalmlops.platform.tls import client_ssl_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fetalmlops.platform.settings import Settings

__all__ = ["EXIT_CONFIGURATION", "EXIT_RETRY", "Service", "run_service"]

EXIT_CONFIGURATION = 78
"""Exit code (EX_CONFIG) for settings or keys that a person has to mend."""

EXIT_RETRY = 75
"""Exit code (EX_TEMPFAIL) of a process that could not keep its promises and must be started again."""

_START = "its start"
_LEAST_GRACE_S = 25.0
_LAST_WORDS_S = 5.0
_RETRY_S = 0.5
_log = get_logger(__name__)


@dataclass(frozen=True)
class Service:
    """What a process is given to run with.

    Parameters
    ----------
    name
        Name of the process, such as ``anonymizer``.
    settings
        The settings.
    health
        Where to say what is waited for.
    stopping
        Set when the process is asked to stop: finish what is in work, take nothing new.
    """

    name: str
    settings: Settings
    health: Health
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def started(self) -> None:
        """Say that the process works, or has said in its health what it waits for; before that it is not ready."""
        self.health.served_by(_START)

    async def until_answered(self, check: Callable[[], Awaitable[None]]) -> None:
        """Try until what a check depends on is there, and say meanwhile what is waited for; end early when asked to stop."""
        waited: set[str] = set()
        while not self.stopping.is_set():
            try:
                await check()
            except TransientError as error:
                waited.add(error.dependency)
                self.health.waiting_for(error.dependency)
                await asyncio.sleep(_RETRY_S)
            else:
                break
        for dependency in waited:
            self.health.served_by(dependency)


def run_service(
    name: str,
    main: Callable[[Service], Awaitable[None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run a process until it is asked to stop, then exit.

    Parameters
    ----------
    name
        Name of the process.
    main
        Its body: returns once ``stopping`` is set and what was in work is done.
    loop_factory
        Makes the event loop; default: that of the standard library.
    """
    try:
        settings = load_settings()
        set_up_telemetry(name, settings)
        if settings.kafka.tls.enabled:
            # Here, once for all: a thread or a task of the process would not know how to end it.
            client_ssl_context(settings.kafka.tls, "kafka.tls")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIGURATION)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        code = runner.run(_live(name, settings, main))
    sys.exit(code)


async def _live(name: str, settings: Settings, main: Callable[[Service], Awaitable[None]]) -> int:
    service = Service(name, settings, Health(name))
    service.health.waiting_for(_START)
    server = HealthServer(service.health, settings.health)
    server.start()
    service.health.note("health_port", server.port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, service, loop)
    _log.info("started", health_port=server.port)
    try:
        with EnergyRecorder(name, settings):
            await main(service)
    except SettingsError as error:
        _log.error("misconfigured", error=str(error))
        return EXIT_CONFIGURATION
    except FetalMLOpsError as error:
        _log.error("failed", error=str(error))
        return EXIT_RETRY
    except Exception:  # noqa: BLE001 - the last resort of a process
        _log.exception("crashed")
        return EXIT_RETRY
    finally:
        server.stop()
        shut_down_telemetry()
        _log.info("stopped")
    return 0


def _stop(service: Service, loop: asyncio.AbstractEventLoop) -> None:
    service.stopping.set()
    # What is not finished in time is redelivered: an abrupt end loses nothing.
    grace_s = max(_LEAST_GRACE_S, service.settings.listener.drain_timeout_s + _LAST_WORDS_S)
    loop.call_later(grace_s, os._exit, EXIT_RETRY)
