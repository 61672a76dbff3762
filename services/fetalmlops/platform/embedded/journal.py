"""The supervisor's log, read as data: how often each process was started, and how it last ended."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Journal", "last_lines", "parse_journal", "read_journal"]

_LAUNCHED = re.compile(r"supervisord started with pid")
_SPAWNED = re.compile(r"spawned: '(?P<name>[\w-]+)' with pid")
_ENDED = re.compile(r"(?:exited|stopped): (?P<name>[\w-]+) \((?P<how>[^;)]+)")
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Journal:
    """What happened since the supervisor was launched.

    Parameters
    ----------
    starts
        Name of a process to the count of its starts.
    endings
        Name to how the process last ended, such as ``exit status 78``.
    """

    starts: Mapping[str, int] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)

    def restarts(self, name: str) -> int:
        """Return how often a process was started again."""
        return max(0, self.starts.get(name, 0) - 1)


def parse_journal(lines: Iterable[str]) -> Journal:
    """Read the lines of the supervisor's log.

    Examples
    --------
    >>> journal = parse_journal([
    ...     "2026-01-01 10:00:00,000 INFO supervisord started with pid 7",
    ...     "2026-01-01 10:00:00,100 INFO spawned: 'keeper' with pid 8",
    ...     "2026-01-01 10:00:01,000 WARN exited: keeper (exit status 78; not expected)",
    ...     "2026-01-01 10:00:02,100 INFO spawned: 'keeper' with pid 9",
    ... ])
    >>> journal.restarts("keeper"), journal.endings["keeper"]
    (1, 'exit status 78')
    """
    starts: Counter[str] = Counter()
    endings: dict[str, str] = {}
    for line in lines:
        if _LAUNCHED.search(line):
            starts.clear()
            endings.clear()
        elif match := _SPAWNED.search(line):
            starts[match["name"]] += 1
        elif match := _ENDED.search(line):
            endings[match["name"]] = match["how"]
    return Journal(dict(starts), endings)


def read_journal(path: Path) -> Journal:
    """Read the supervisor's log and its rotated predecessors; empty if there is none."""
    files = [path.with_name(f"{path.name}.{number}") for number in (2, 1)] + [path]
    return parse_journal(
        line for file in files if file.is_file() for line in file.read_text("utf-8", errors="replace").splitlines()
    )


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[max(0, len(lines) - count) :]
