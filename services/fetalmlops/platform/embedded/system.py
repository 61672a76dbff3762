"""The embedded system: everything on one machine under one state folder, started, watched and stopped together."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.configuration import Configuration, configure, recorded_ports
from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import disk_errors
from fetalmlops.platform.embedded.jars import find_jars
from fetalmlops.platform.embedded.journal import last_lines, read_journal
from fetalmlops.platform.embedded.kafka import format_storage
from fetalmlops.platform.embedded.layout import Layout
from fetalmlops.platform.embedded.orphans import find_orphans, stop_processes
from fetalmlops.platform.embedded.programs import (
    BROKER,
    OPTIONAL,
    PROGRAMS,
    SERVERS,
    SERVICES,
    chosen_programs,
    make_programs,
)
from fetalmlops.platform.embedded.readiness import fetch_readiness
from fetalmlops.platform.embedded.supervision import Supervisor
from fetalmlops.platform.provisioning import provision_topics
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from fetalmlops.platform.settings import Settings

__all__ = ["EmbeddedSystem", "Report", "start_servers", "stop_servers"]

Report = Callable[[str, str], None]
"""Called with the name of a process or step and what it is at, such as ``("broker", "ready")``."""

_READY_S = 90.0
_STOP_S = 100.0
_POLL_S = 0.1
_DISK_NEEDED = 64 << 20

# A process that dies this often while the others come up will not come up by itself.
_DEATHS = 3
_EXIT_CONFIGURATION = "exit status 78"


class EmbeddedSystem:
    """Everything that runs on one machine under one state folder.

    Parameters
    ----------
    home
        The state folder.
    usual_ports
        Whether to prefer the usual ports at the first start; tests take any free ones.
    """

    def __init__(self, home: Path, *, usual_ports: bool = True) -> None:
        self.layout = Layout(home.absolute())
        self.supervisor = Supervisor(self.layout)
        self._usual_ports = usual_ports

    def up(
        self,
        programs: Sequence[str] | None = None,
        *,
        report: Report = lambda _name, _state: None,
        before_services: Callable[[Settings], None] = lambda _settings: None,
    ) -> Settings:
        """Start what does not run, wait until it is able to work, and return the settings to reach it with.

        Parameters
        ----------
        programs
            Which of `PROGRAMS` and `OPTIONAL`; default: those that the settings ask for. The servers alone are enough for
            tests of a single part.
        report
            Told of every step.
        before_services
            Called once servers and topics are there, before the services start.

        Raises
        ------
        EmbeddedError
            If the machine lacks something, a port is taken, or a process does not come up; names it, with its last words.
        SettingsError
            If settings are wrong or keys are lost.
        """
        self.layout.prepare()
        with self._alone():
            configuration = self._running() or self._launch(report)
            programs = chosen_programs(configuration.settings) if programs is None else programs
            self._bring_up([name for name in SERVERS if name in programs], configuration, report)
            if BROKER in programs:
                report("topics", "provisioning")
                provision_topics(configuration.settings.kafka)
                report("topics", "ready")
            services = [name for name in SERVICES + OPTIONAL if name in programs]
            if services:
                before_services(configuration.settings)
            self._bring_up(services, configuration, report)
            return configuration.settings

    def down(self) -> bool:
        """Stop everything and wait for its end; returns whether anything ran.

        Raises
        ------
        EmbeddedError
            If something does not end.
        """
        if not self.layout.exists():
            return False
        with self._alone():
            ran = self.supervisor.is_running()
            if ran:
                self.supervisor.shut_down(_STOP_S)
            return self._end_orphans() or ran

    def stop(self, *names: str) -> None:
        """Stop single processes; `up` starts them again."""
        self.supervisor.stop(names)

    def _running(self) -> Configuration | None:
        """Return what a running supervisor was configured with; None if none runs."""
        if not self.supervisor.is_running():
            return None
        programs = tuple(name for name in PROGRAMS + OPTIONAL if name in self.supervisor.states())
        ports = recorded_ports(self.layout)
        return Configuration(settings=load_settings(self.layout.home), ports=ports, programs=programs)

    def _launch(self, report: Report) -> Configuration:
        if self._end_orphans():
            report("supervisor", "ended what a lost supervisor had left behind")
        with disk_errors(self.layout.home):
            self._check_disk()
            configuration = configure(self.layout, usual_ports=self._usual_ports)
            programs = make_programs(self.layout, configuration.programs, configuration.ports)
            if BROKER in configuration.programs and format_storage(self.layout, find_jars()):
                report(BROKER, "formatted")
            self.supervisor.launch(programs)
        return configuration

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.layout.home).free
        if free < _DISK_NEEDED:
            msg = (
                f"Expected {_DISK_NEEDED >> 20} MiB free at {self.layout.home} for the servers to start, got {free >> 20} "
                "MiB; free some disk space"
            )
            raise EmbeddedError(msg)

    def _end_orphans(self) -> bool:
        if self.supervisor.pid() is not None:
            # It runs but does not answer: it ends its own processes in order when asked to.
            self.supervisor.signal(signal.SIGTERM)
        orphans = find_orphans(self.layout)
        stop_processes(orphans, grace_s=30.0)
        return bool(orphans)

    def _bring_up(self, names: Iterable[str], configuration: Configuration, report: Report) -> None:
        pending = [name for name in names if name in configuration.programs]
        if not pending:
            return
        before = read_journal(self.supervisor.log).starts
        for name in self.supervisor.start(pending):
            report(name, "starting")
        deadline = time.monotonic() + _READY_S
        waiting: dict[str, tuple[str, ...]] = {}
        while pending:
            for name in list(pending):
                readiness = fetch_readiness(name, configuration.settings, configuration.ports)
                if readiness.ready and self.supervisor.states()[name].alive:
                    pending.remove(name)
                    report(name, "ready")
                elif readiness.waiting != waiting.get(name, ()):
                    waiting[name] = readiness.waiting
                    report(name, f"waiting for {', '.join(readiness.waiting)}" if readiness.waiting else "starting")
            self._check_deaths(pending, before)
            if pending and time.monotonic() > deadline:
                raise EmbeddedError(self._not_ready(pending, waiting))
            time.sleep(_POLL_S if pending else 0)

    def _check_deaths(self, names: Iterable[str], before: Mapping[str, int]) -> None:
        journal = read_journal(self.supervisor.log)
        for name in names:
            deaths = journal.starts.get(name, 0) - before.get(name, 0) - 1
            how = journal.endings.get(name, "")
            if deaths >= _DEATHS or (deaths > 0 and how == _EXIT_CONFIGURATION):
                words = "\n  ".join(last_lines(self.layout.log(name), 5))
                msg = (
                    f"Expected {name} to stay up, got one that keeps ending ({how}); its last words:\n  {words}\n"
                    f"See `fetalmlops logs {name}` and `fetalmlops doctor`"
                )
                raise EmbeddedError(msg)

    def _not_ready(self, names: Sequence[str], waiting: dict[str, tuple[str, ...]]) -> str:
        texts = [f"{name} ({', '.join(waiting.get(name, ())) or 'no answer'})" for name in names]
        return (
            f"Expected every process to be ready within {_READY_S:.0f} s, got some still waiting: {', '.join(texts)}; "
            "see `fetalmlops status` and `fetalmlops logs`"
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep two commands from starting or stopping the same system at once."""
        path = self.layout.run / "lock"
        with disk_errors(path):
            file = path.open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = f"Expected to be alone with {self.layout.home}, got another up or down at work; wait for its end"
                raise EmbeddedError(msg) from None
            yield


def start_servers(home: Path) -> Settings:
    """Start a broker with all topics and a Valkey, on any free ports, under a state folder.

    Returns
    -------
    Settings
        The settings to reach them with; a process started with ``FETALMLOPS_HOME=home`` reads the same.
    """
    return EmbeddedSystem(home, usual_ports=False).up(SERVERS)


def stop_servers(home: Path) -> None:
    """Stop what `start_servers` started."""
    EmbeddedSystem(home).down()
