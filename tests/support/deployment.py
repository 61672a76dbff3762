"""A whole embedded system on free ports, to be hurt and watched."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from fetalmlops.cli.provision import provide_model
from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.events import InstanceClassified
from fetalmlops.domain.contracts.topics import INSTANCE_CLASSIFIED, Topic
from fetalmlops.domain.errors import TransientError
from fetalmlops.domain.operations.ledger import OpenEntry
from fetalmlops.domain.operations.results import CurrentResults
from fetalmlops.platform.bus import read_events
from fetalmlops.platform.deid.keys import load_pseudonym_key
from fetalmlops.platform.embedded import EmbeddedSystem
from fetalmlops.platform.embedded.configuration import recorded_ports
from fetalmlops.platform.embedded.readiness import Readiness, fetch_readiness
from fetalmlops.platform.provisioning import open_admin
from fetalmlops.platform.quarantine import read_ledger
from fetalmlops.platform.settings import Settings
from support.dcmtk import Pacs

PROCESSES = ("broker", "valkey", "listener", "anonymizer", "normalizer", "inference", "classifier")


@dataclass
class Account:
    """What became of acknowledged SOP instances."""

    results: set[str] = field(default_factory=set)
    quarantined: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)
    """The instance of each content that has more than one current result."""

    @property
    def doubled(self) -> int:
        return len(self.twice)

    def doubled_of(self, instances: set[str]) -> int:
        return sum(instance in instances for instance in self.twice)

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

    def take_away(self, process: str) -> None:
        """Kill a process with SIGKILL, and keep the supervisor from starting it again."""
        pid = self.pid(process)
        # Held still, it never sees the SIGTERM by which the supervisor learns that its end is wanted.
        os.kill(pid, signal.SIGSTOP)
        stopping = threading.Thread(target=self.system.stop, args=(process,))
        stopping.start()
        wait_until(lambda: self.system.supervisor.states()[process].state == "STOPPING", 30)
        os.kill(pid, signal.SIGKILL)
        stopping.join()

    def bring_back(self, process: str) -> None:
        """Start a process that was taken away or stopped, and wait until it is able to work."""
        self.system.supervisor.start([process])
        wait_until(lambda: self.readiness(process).ready, 90)

    def readiness(self, process: str) -> Readiness:
        return fetch_readiness(process, self.settings, recorded_ports(self.system.layout))

    def published(self, topic: Topic) -> int:
        """Return how many records a topic was ever given."""
        return sum(self._offsets(topic, OffsetSpec.LATEST).values())

    def kept(self, topic: Topic) -> int:
        """Return how many records a topic still has."""
        return self.published(topic) - sum(self._offsets(topic, OffsetSpec.EARLIEST).values())

    def delete_records(self, topic: Topic) -> None:
        """Delete every record of a topic, as its retention would."""
        ends = self._offsets(topic, OffsetSpec.LATEST)
        with open_admin(self.settings.kafka) as admin:
            admin.delete_records(ends)

    def _offsets(self, topic: Topic, spec: OffsetSpec) -> dict[Any, int]:
        parts = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        with open_admin(self.settings.kafka) as admin:
            return {
                part: entry.offset for part, entry in admin.list_partition_offsets(dict.fromkeys(parts, spec)).items()
            }

    def stored(self) -> set[str]:
        """Return the origins of all instances in the phi zone."""
        return {f"{path.parent.name}/{path.stem}" for path in zone(self.settings.phi_url).glob("instances/*/*.dcm")}

    def done(self) -> set[str]:
        """Return the origins that have a done marker."""
        return {f"{path.parent.name}/{path.name}" for path in zone(self.settings.clean_url).glob("done/*/*")}

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
        instances = {result.content_id: result.context.instance for result in results}
        return Account(
            results={result.context.instance for result in results},
            quarantined={item.entry.context.instance for item in entries if item.entry.context},
            twice=[instances[content] for (content, _), ids in results.contents().items() if len(ids) > 1],
        )

    def wait_for(self, acknowledged: set[str], timeout: float) -> Account:
        """Wait until every acknowledged instance has ended, or the time is over."""
        end = time.monotonic() + timeout
        while True:
            try:
                account = self.account()
            except TransientError:  # the broker is on its way back
                account = Account()
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
    async for record, result in read_events(settings.kafka, INSTANCE_CLASSIFIED, InstanceClassified):
        current.add(Envelope.from_headers(record.headers).id, result)
    return current


@contextmanager
def deployed(
    toml: str = "", environment: dict[str, str] | None = None, *, secrets: Path | None = None, sources: str = ""
) -> Iterator[Deployment]:
    """Run a whole system with settings, and if given keys and sources, of its own; all is stopped and deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="fetalmlops-system-"))
    if secrets:
        shutil.copytree(secrets, home / "secrets")
    (home / "fetalmlops.toml").write_text(toml)
    if sources:
        (home / "sources.toml").write_text(sources)
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


def zone(url: str) -> Path:
    """Return the folder of a zone that is kept in files."""
    return Path(unquote(urlsplit(url).path))


def wait_until(condition: Callable[[], bool], timeout: float) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout:.0f} s"
        time.sleep(0.05)


def table(*rows: tuple[object, ...]) -> str:
    """Return rows as a table, the first column to the left."""
    texts = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join("  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))) for row in texts)


def provide_model_of(settings: Settings) -> None:
    """Promote the bundled model."""
    provide_model(settings)


def send_with_dcmtk(
    files: list[Path], settings: Settings, *, associations: int = 4, during: Callable[[], None] = lambda: None
) -> set[Path]:
    """Send files with dcmtk's storescu over several associations at once; send again what was interrupted, as a PACS would.

    `during` is called once, when the first pass is under way. Returns the files that were acknowledged with 0x0000.
    """
    pacs = Pacs(files, settings, associations=associations)
    during()
    pacs.finish()
    return pacs.acknowledged
