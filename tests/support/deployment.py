"""A whole embedded system on free ports, to be hurt and watched."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fetalmlops.cli.provision import provide_model
from fetalmlops.domain.contracts.codec import decode
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED
from fetalmlops.domain.operations.ledger import OpenEntry
from fetalmlops.domain.operations.results import CurrentResults
from fetalmlops.platform.bus import read_topic
from fetalmlops.platform.embedded import EmbeddedSystem
from fetalmlops.platform.keys import load_pseudonym_key
from fetalmlops.platform.quarantine import read_ledger
from fetalmlops.platform.settings import Settings

PROCESSES = ("broker", "valkey", "listener", "anonymizer", "normalizer", "inference", "classifier")


@dataclass
class Account:
    """What became of acknowledged SOP instances."""

    results: set[str] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)
    doubled: int = 0

    def lost(self, acknowledged: set[str]) -> set[str]:
        """Return what ended in neither."""
        return acknowledged - self.results - self.quarantined


@dataclass
class Deployment:
    """One running system."""

    system: EmbeddedSystem
    settings: Settings

    @property
    def home(self) -> Path:
        return self.system.layout.home

    def pid(self, process: str) -> int:
        return self.system.supervisor.states()[process].pid

    def kill(self, process: str) -> None:
        """Kill a process with SIGKILL, as a crash would end it."""
        os.kill(self.pid(process), signal.SIGKILL)

    def restart(self, *processes: str) -> None:
        """Stop processes in order and start them again, with the settings that stand in the files now."""
        self.system.stop(*processes)
        self.settings = self.system.up(processes)

    def instance(self, uid: str) -> str:
        """Return the pseudonym of a SOP Instance UID."""
        return load_pseudonym_key(self.settings).instance(uid)

    def results(self) -> CurrentResults:
        return asyncio.run(_results(self.settings))

    def open_entries(self) -> list[OpenEntry]:
        return asyncio.run(read_ledger(self.settings.kafka)).open()

    def account(self) -> Account:
        """Return what became of every instance so far, by instance pseudonym."""
        results = self.results()
        entries = self.open_entries()
        return Account(
            results={result.context.instance for result in results},
            quarantined={item.entry.context.instance for item in entries if item.entry.context},
            doubled=sum(len(ids) > 1 for ids in results.contents().values()),
        )

    def wait_for(self, acknowledged: set[str], timeout: float) -> Account:
        """Wait until every acknowledged instance has ended, or the time is over."""
        end = time.monotonic() + timeout
        while True:
            account = self.account()
            if not account.lost(acknowledged) or time.monotonic() > end:
                return account
            time.sleep(1.0)

    def memory_bytes(self) -> int:
        """Return the resident memory of all processes, children included."""
        total = 0
        for state in self.system.supervisor.states().values():
            if state.pid:
                family = [psutil.Process(state.pid), *psutil.Process(state.pid).children(recursive=True)]
                total += sum(item.memory_info().rss for item in family)
        return total


async def _results(settings: Settings) -> CurrentResults:
    current = CurrentResults()
    async for record in read_topic(settings.kafka, INSTANCE_CLASSIFIED):
        current.add(Envelope.from_headers(record.headers).id, decode(InstanceClassified, record.value))
    return current


@contextmanager
def deployed(toml: str = "", environment: dict[str, str] | None = None) -> Iterator[Deployment]:
    """Run a whole system with settings of its own; everything is stopped and deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="fetalmlops-system-"))
    (home / "fetalmlops.toml").write_text(toml)
    os.environ.update(environment or {})
    system = EmbeddedSystem(home, usual_ports=False)
    try:
        settings = system.up(before_services=provide_model_of)
        yield Deployment(system, settings)
    finally:
        system.down()
        for name in environment or {}:
            del os.environ[name]
        shutil.rmtree(home, ignore_errors=True)


def provide_model_of(settings: Settings) -> None:
    """Promote the bundled model."""
    provide_model(settings)


def send_with_dcmtk(
    files: list[Path], settings: Settings, *, associations: int = 4, during: Callable[[], None] = lambda: None
) -> set[Path]:
    """Send files with dcmtk's storescu over several associations at once; send again what was interrupted, as a PACS would.

    `during` is called once, when the first pass is under way. Returns the files that were acknowledged with 0x0000.
    """
    acknowledged: set[Path] = set()
    for attempt in range(12):
        left = [path for path in files if path not in acknowledged]
        if not left:
            break
        senders = [
            _Storescu(left[part::associations], settings) for part in range(associations) if left[part::associations]
        ]
        if attempt == 0:
            during()
        for sender in senders:
            acknowledged |= sender.finish()
        time.sleep(0.5 if attempt else 0)
    return acknowledged


class _Storescu:
    def __init__(self, files: list[Path], settings: Settings) -> None:
        listener = settings.listener
        command = ["storescu", "-v", "-aet", "FETALSIM", "-aec", listener.ae_title, "-R", "-to", "20", "-td", "60"]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        self._files = files
        self._process = subprocess.Popen(
            [*command, "127.0.0.1", str(listener.port), *map(str, files)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )

    def finish(self) -> set[Path]:
        output, _ = self._process.communicate(timeout=600)
        acknowledged, current = set(), None
        for line in output.splitlines():
            if "Sending file: " in line:
                current = Path(line.split("Sending file: ", 1)[1].strip())
            elif "Received Store Response (Success)" in line and current is not None:
                acknowledged.add(current)
                current = None
        return acknowledged
