"""The supervisor of the embedded system: a supervisord of our own, spoken to over a Unix socket in the state folder.

It restarts what dies, without end and with a growing delay, so that a process which cannot start costs little.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil

from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import make_folder, write_file
from fetalmlops.platform.embedded.supervisord import supervisor_log, supervisord_configuration

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable, Iterator, Sequence

    from fetalmlops.platform.embedded.layout import Layout
    from fetalmlops.platform.embedded.programs import Program

__all__ = ["MARKER", "ProcessState", "Supervisor"]

MARKER = "FETALMLOPS_SUPERVISED"
"""Environment variable with the state folder that every supervised process inherits: by it, orphans are recognised."""

# sun_path holds 104 bytes on macOS and 108 on Linux, and supervisord first binds a name with its process id added.
_SOCKET_BYTES = 90
_START_S = 15.0
_NOT_RUNNING = 70
_ALREADY_STARTED = 60


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """What the supervisor knows of a process.

    Parameters
    ----------
    name
        Name of the process.
    group
        With what it starts and stops.
    state
        The supervisor's word: ``RUNNING``, ``STARTING``, ``BACKOFF``, ``STOPPED``, ``EXITED``, ``FATAL``.
    pid
        Process id; 0 while it does not run.
    started_s
        When it was last started, in seconds since 1970; 0 for never.
    """

    name: str
    group: str
    state: str
    pid: int
    started_s: int

    @property
    def full_name(self) -> str:
        """The supervisor's name for it."""
        return f"{self.group}:{self.name}"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid > 0


class Supervisor:
    """Controls the supervisord of one state folder.

    Parameters
    ----------
    layout
        The state folder.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._configuration = layout.run / "supervisord.conf"
        self._pid_file = layout.run / "supervisord.pid"
        self._socket = _socket_path(layout)

    @property
    def log(self) -> Path:
        """The supervisor's own log: every start and end of a process."""
        return supervisor_log(self._layout)

    def is_running(self) -> bool:
        """Return whether the supervisor answers."""
        try:
            self._call("getState")
        except (OSError, xmlrpc.client.Error, EmbeddedError):
            return False
        return True

    def launch(self, programs: Sequence[Program]) -> None:
        """Start the supervisor with these programs, none of them started yet.

        Raises
        ------
        EmbeddedError
            If it does not start.
        """
        make_folder(self._socket.parent)
        _check_private(self._socket.parent)
        text = supervisord_configuration(self._layout, programs, socket=self._socket, pid_file=self._pid_file)
        write_file(self._configuration, text)
        environment = {
            **os.environ,
            "FETALMLOPS_HOME": str(self._layout.home),
            MARKER: str(self._layout.home),
            "PYTHONUNBUFFERED": "1",
            # Threads that allocate keep their own heaps otherwise: many small processes would grow for nothing.
            "MALLOC_ARENA_MAX": "2",
        }
        command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_START_S, check=False)
        deadline = time.monotonic() + _START_S
        while not self.is_running():
            if done.returncode != 0 or time.monotonic() > deadline:
                lines = (done.stderr or done.stdout).strip().splitlines()
                msg = f"Expected the supervisor to start, got: {' '.join(lines[-2:]) or 'no answer'}; see {self.log}"
                raise EmbeddedError(msg)
            time.sleep(0.05)

    def states(self) -> dict[str, ProcessState]:
        """Return the state of each process by name."""
        return {
            info["name"]: ProcessState(
                name=info["name"],
                group=info["group"],
                state=info["statename"],
                pid=info["pid"],
                started_s=info["start"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def start(self, names: Iterable[str]) -> list[str]:
        """Start processes, at once even those that wait for their next attempt.

        Returns
        -------
        list of str
            The names of those that did not run.
        """
        states = self.states()
        idle = [states[name] for name in names if name in states and not states[name].alive]
        for process in idle:
            if process.state == "BACKOFF":
                self._tolerate(_NOT_RUNNING, "stopProcess", process.full_name)
            self._tolerate(_ALREADY_STARTED, "startProcess", process.full_name, False)
        return [process.name for process in idle]

    def stop(self, names: Iterable[str]) -> None:
        """Stop processes and wait for their end."""
        states = self.states()
        for name in names:
            self._tolerate(_NOT_RUNNING, "stopProcess", states[name].full_name)

    def shut_down(self, timeout_s: float) -> None:
        """Stop the services, then the servers, then the supervisor itself.

        Raises
        ------
        EmbeddedError
            If it still runs after `timeout_s`.
        """
        pid = self.pid()
        with contextlib.suppress(ConnectionError, xmlrpc.client.Error):
            self._call("shutdown")
        deadline = time.monotonic() + timeout_s
        while pid is not None and _is_alive(pid):
            if time.monotonic() > deadline:
                msg = f"Expected the supervisor to end within {timeout_s:.0f} s, got pid {pid} still alive; see {self.log}"
                raise EmbeddedError(msg)
            time.sleep(0.05)

    def pid(self) -> int | None:
        """Return the supervisor's process id; None if no process of that id is this supervisor."""
        try:
            pid = int(self._pid_file.read_text("ascii"))
            ours = str(self._configuration) in psutil.Process(pid).cmdline()
        except (OSError, ValueError, psutil.Error):
            return None
        return pid if ours else None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to a supervisor that does not answer."""
        if (pid := self.pid()) is not None:
            os.kill(pid, number)

    def _tolerate(self, fault: int, method: str, *arguments: object) -> None:
        try:
            self._call(method, *arguments)
        except xmlrpc.client.Fault as error:
            if error.faultCode != fault:
                msg = f"Expected the supervisor to carry out {method}, got: {error.faultString}; see {self.log}"
                raise EmbeddedError(msg) from error

    def _call(self, method: str, *arguments: object) -> Any:
        with self._proxy() as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    @contextlib.contextmanager
    def _proxy(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=cast("Any", transport))
        finally:
            transport.close()


def _socket_path(layout: Layout) -> Path:
    path = layout.run / "supervisor.sock"
    if len(os.fsencode(path)) <= _SOCKET_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(layout.home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"fetalmlops-{os.getuid()}-{digest}" / "s.sock"


def _check_private(folder: Path) -> None:
    """Refuse a socket folder that somebody else made: who can write there could answer in the supervisor's place."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        msg = f"Expected {folder} to be a private folder of this user, got another one; remove it"
        raise EmbeddedError(msg)


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
