"""Processes that a killed supervisor left behind: recognised by what only ours have, never by a process id alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil

from fetalmlops.platform.embedded.supervision import MARKER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.platform.embedded.layout import Layout

__all__ = ["find_orphans", "stop_processes"]


def find_orphans(layout: Layout) -> list[psutil.Process]:
    """Return this user's processes that a supervisor of this state folder started.

    Each carries the state folder in the variable `MARKER`, which it got from its supervisor and hands on to its
    children; a process id that was given to another program since then does not match.
    """
    return [process for process in psutil.process_iter() if _is_ours(process, str(layout.home))]


def stop_processes(processes: Sequence[psutil.Process], *, grace_s: float) -> None:
    """End processes: SIGTERM, and SIGKILL for those that still run after `grace_s` seconds.

    `psutil` compares the start time before each signal, so that a process id used anew is never hit.
    """
    for process in processes:
        _send(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        _send(process, kill=True)
    psutil.wait_procs(alive, timeout=5)


def _is_ours(process: psutil.Process, home: str) -> bool:
    try:
        if process.pid == os.getpid() or process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.environ().get(MARKER) == home)
    except (psutil.Error, OSError):
        return False


def _send(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return
