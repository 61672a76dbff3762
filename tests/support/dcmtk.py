"""dcmtk's storescu, followed while it sends: what was sent and answered, and when."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fetalmlops.platform.settings import Settings

_SENDING = re.compile(r"Sending file: (.+)$")
_ANSWERED = re.compile(r"Received Store Response \((.+)\)")


@dataclass(frozen=True)
class Store:
    """One C-STORE that was answered: the file, the answer in dcmtk's words, when it was sent (s) and how long it took (s)."""

    path: Path
    answer: str
    sent_s: float
    seconds: float

    @property
    def succeeded(self) -> bool:
        return self.answer == "Success"


@dataclass
class Storescu:
    """One association of storescu; it sends from the start on."""

    files: list[Path]
    settings: Settings
    port: int = 0
    options: tuple[str, ...] = ()
    stores: list[Store] = field(default_factory=list)
    sent: dict[Path, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        listener = self.settings.listener
        options = ["-v", "-aet", "FETALSIM", "-aec", listener.ae_title, "-R", "-to", "20", "-td", "60"]
        self._process = subprocess.Popen(
            ["storescu", *options, *self.options, "127.0.0.1", str(self.port or listener.port), *map(str, self.files)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def acknowledged(self) -> set[Path]:
        """The files that were answered with 0x0000 so far."""
        return {store.path for store in list(self.stores) if store.succeeded}

    def finish(self, timeout: float = 600) -> int:
        """Wait for the end; return the exit status: 0 if all was sent and the association released."""
        self._process.wait(timeout)
        self._reader.join(timeout)
        return self._process.returncode

    def _read(self) -> None:
        assert self._process.stdout
        current, begun = None, 0.0
        with self._process.stdout as lines:
            for line in lines:
                if found := _SENDING.search(line):
                    current, begun = Path(found[1].strip()), time.time()
                    self.sent[current] = begun
                elif current is not None and (found := _ANSWERED.search(line)):
                    self.stores.append(Store(current, found[1], begun, time.time() - begun))
                    current = None


class Pacs:
    """Sends files over several associations at once, and again what was interrupted, until each was acknowledged.

    Parameters
    ----------
    files
        What to send, dealt out over the associations.
    settings
        Whom to send to.
    associations
        How many.
    attempts
        How often an association is opened anew.
    """

    def __init__(self, files: list[Path], settings: Settings, *, associations: int = 4, attempts: int = 30) -> None:
        self._settings = settings
        self._attempts = attempts
        self._senders: list[Storescu] = []
        hands = [files[part::associations] for part in range(min(associations, len(files)))]
        self._threads = [threading.Thread(target=self._send, args=(hand,), daemon=True) for hand in hands]
        for thread in self._threads:
            thread.start()

    @property
    def acknowledged(self) -> set[Path]:
        """The files that were answered with 0x0000 so far."""
        return set().union(*(sender.acknowledged for sender in list(self._senders)))

    @property
    def sending(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def first_sent(self) -> dict[Path, float]:
        """Return when each file was sent for the first time, seconds since the epoch."""
        times: dict[Path, float] = {}
        for sender in list(self._senders):
            for path, sent_s in sender.sent.items():
                times[path] = min(sent_s, times.get(path, sent_s))
        return times

    def finish(self) -> None:
        """Wait for the end."""
        for thread in self._threads:
            thread.join()

    def _send(self, files: list[Path]) -> None:
        for attempt in range(self._attempts):
            # A peer that is on its way back refuses connections at once.
            time.sleep(0.5 if attempt else 0)
            sender = Storescu(files, self._settings)
            self._senders.append(sender)
            sender.finish()
            files = [path for path in files if path not in sender.acknowledged]
            if not files:
                return
