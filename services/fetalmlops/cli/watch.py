"""``fetalmlops status``, ``logs`` and ``doctor``: how the embedded system and this machine fare."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fetalmlops.cli.ages import age
from fetalmlops.platform.embedded import EmbeddedError, EmbeddedSystem
from fetalmlops.platform.embedded.doctor import Level, examine
from fetalmlops.platform.embedded.follow import follow_logs
from fetalmlops.platform.embedded.journal import last_lines
from fetalmlops.platform.embedded.programs import OPTIONAL, PROGRAMS
from fetalmlops.platform.embedded.status import fetch_status
from fetalmlops.platform.settings import home_folder

if TYPE_CHECKING:
    from fetalmlops.platform.embedded.status import ProcessStatus

__all__ = ["doctor", "logs", "status"]

_NOT_READY = 1
_NOT_RUNNING = 3
_SUPERVISOR = "supervisord"
_HEALTH_STYLES = {"ready": "green", "elsewhere": "green", "waiting": "yellow", "restarting": "yellow"}
_LEVEL_MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}
_NAME_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_out = Console(highlight=False)


def status(*, as_json: _AsJson = False) -> None:
    """Show how every process fares: health, lag, last event. Exits with 0 if all are ready, 1 if not, 3 if not started."""
    found = fetch_status(EmbeddedSystem(home_folder()))
    if as_json:
        typer.echo(msgspec.json.encode(found))
    elif not found.running:
        _out.print(f"Not started: run [bold]fetalmlops up[/]. State folder: {found.home}")
    else:
        _out.print(_status_table(found.processes))
    if not found.ready:
        raise typer.Exit(_NOT_READY if found.running else _NOT_RUNNING)


def logs(
    processes: Annotated[
        list[str] | None,
        typer.Argument(help=f"Of {', '.join(PROGRAMS + OPTIONAL)}, {_SUPERVISOR}; default: all.", show_default=False),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with lines as they come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each log.")] = 20,
) -> None:
    """Show the logs."""
    known = (*PROGRAMS, *OPTIONAL, _SUPERVISOR)
    names = processes or list(known)
    if unknown := sorted(set(names) - set(known)):
        msg = f"Expected processes among {', '.join(known)}, got {', '.join(unknown)}"
        raise EmbeddedError(msg)
    layout = EmbeddedSystem(home_folder()).layout
    styles = dict(zip(names, _NAME_STYLES * len(names), strict=False))
    for name in names:
        for line in last_lines(layout.log(name), lines):
            _print_line(name, line, styles, alone=len(names) == 1)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for name, line in follow_logs({name: layout.log(name) for name in names}):
                _print_line(name, line, styles, alone=len(names) == 1)


def doctor(*, as_json: _AsJson = False) -> None:
    """Say in plain words what is wrong with this machine. Exits with 1 if something is."""
    findings = examine(EmbeddedSystem(home_folder()))
    if as_json:
        typer.echo(msgspec.json.encode(findings))
    else:
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            mark, style = _LEVEL_MARKS[finding.level]
            table.add_row(Text(mark, style=style), finding.check, Text(finding.text))
        _out.print(table)
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(1)


def _status_table(processes: tuple[ProcessStatus, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("process", "health", "pid", "port", "memory", "lag", "last event", "restarts"):
        right = name in {"pid", "port", "memory", "lag", "restarts"}
        table.add_column(name, justify="right" if right else "left")
    for process in processes:
        health = f"waiting for {', '.join(process.waiting)}" if process.waiting else process.health
        table.add_row(
            process.name,
            Text(health, style=_HEALTH_STYLES.get(process.health, "red")),
            str(process.pid or "-"),
            _or_dash(process.port),
            "-" if process.memory_bytes is None else f"{process.memory_bytes / 2**20:.0f} MiB",
            _or_dash(process.lag),
            "-" if process.last_event_ms is None else f"{age(process.last_event_ms)} ago",
            str(process.restarts),
        )
    return table


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _print_line(name: str, line: str, styles: dict[str, str], *, alone: bool) -> None:
    text = Text(line) if alone else Text.assemble((f"{name:<11} ", styles[name]), line)
    _out.print(text, soft_wrap=True)
