"""The inference service as it runs: its parent and its processes, over a broker and a store that have a promotion."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.promotion import promote
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import Settings

_PATIENCE_S = 90.0


async def promote_files(settings: Settings, files: Mapping[str, bytes], role: Role = Role.CHAMPION) -> None:
    """Promote a bundle."""
    publisher = Publisher(settings.kafka, Health("test"))
    await publisher.start()
    await promote(files, role=role, actor="tester", reason="test", objects=open_objects(settings), publisher=publisher)
    await publisher.stop()


class Serving:
    """A running inference service.

    Parameters
    ----------
    settings
        Where its broker and store are.
    variables
        Its own settings, as environment variables.
    """

    def __init__(self, settings: Settings, **variables: str) -> None:
        self.health_port = _free_port()
        environment = {
            **os.environ,
            "FETALMLOPS_HOME": str(settings.home),
            "FETALMLOPS_INFERENCE__PORT": "0",
            "FETALMLOPS_HEALTH__PORT": str(self.health_port),
            **variables,
        }
        command = [sys.executable, "-m", "fetalmlops.inference"]
        self.popen = subprocess.Popen(command, env=environment, start_new_session=True)

    @property
    def target(self) -> str:
        """Where it serves."""
        return f"127.0.0.1:{self.report()['port']}"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of those that serve, by number."""
        return {number: each["pid"] for number, each in self.report()["processes"].items() if each["ready"]}

    def report(self) -> dict[str, Any]:
        """Return what it says of itself; empty while it does not answer."""
        try:
            return dict(json.loads(self.get("/readyz")))
        except OSError:
            return {}

    def get(self, path: str) -> str:
        """Return the body of its health endpoint."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())

    def wait_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until its report is as wanted."""
        end = time.monotonic() + _PATIENCE_S
        while not condition(report := self.report()):
            assert time.monotonic() < end, report
            assert self.popen.poll() is None, "the service ended"
            time.sleep(0.05)
        return report

    def wait_for_all(self, count: int) -> None:
        """Wait until so many processes serve."""
        self.wait_until(lambda report: sum(each["ready"] for each in report.get("processes", {}).values()) == count)

    def end(self) -> int:
        """Ask it to end, and return its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(60)


@contextmanager
def serving(settings: Settings, **variables: str) -> Iterator[Serving]:
    """Run the service, and kill whatever is left of it at the end."""
    service = Serving(settings, **variables)
    try:
        yield service
    finally:
        if service.popen.poll() is None:
            os.killpg(service.popen.pid, signal.SIGKILL)
        service.popen.wait(20)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
