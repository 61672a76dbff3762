"""The configuration that supervisord is started with."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.programs import Group

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fetalmlops.platform.embedded.layout import Layout
    from fetalmlops.platform.embedded.programs import Program

__all__ = ["supervisor_log", "supervisord_configuration"]

_HEAD = """\
; Written by `fetalmlops up`.
[supervisord]
identifier=fetalmlops
logfile={log}
logfile_maxbytes=10MB
logfile_backups=2
loglevel=info
pidfile={pid}
childlogdir={logs}
directory={home}
umask=077
nocleanup=true
strip_ansi=true
{user}
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# startsecs: a process that dies earlier is restarted with a delay that grows by a second each time, later ones at once.
# Only a killed process takes its group with it: on SIGTERM a service ends its own children when their work is done.
_PROGRAM = """
[program:{name}]
command={command}
environment={environment}
autostart=false
autorestart=true
startsecs=5
startretries=1000000
stopwaitsecs={stop}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def supervisor_log(layout: Layout) -> Path:
    """Return the supervisor's own log: every start and end of a process."""
    return layout.log("supervisord")


def supervisord_configuration(layout: Layout, programs: Sequence[Program], *, socket: Path, pid_file: Path) -> str:
    """Return the text of supervisord's configuration.

    Parameters
    ----------
    layout
        The state folder.
    programs
        What to supervise; nothing starts by itself.
    socket
        Where supervisord is spoken to.
    pid_file
        Where it writes its process id.

    Raises
    ------
    EmbeddedError
        If a path cannot be written in that format.
    """
    places = {
        "log": supervisor_log(layout),
        "logs": layout.logs,
        "home": layout.home,
        "socket": socket,
        "pid": pid_file,
    }
    values = {name: _value(str(path)) for name, path in places.items()}
    # supervisord takes running as root for a mistake unless it is told so.
    head = _HEAD.format(**values, user="user=root\n" if os.geteuid() == 0 else "")
    # It stops one group after the other, the last priority first.
    groups = [
        f"\n[group:{group}]\nprograms={','.join(members)}\npriority={priority}\n"
        for priority, group in enumerate(Group, start=1)
        if (members := [program.name for program in programs if program.group is group])
    ]
    return "".join([head, *(_section(layout, program) for program in programs), *groups])


def _section(layout: Layout, program: Program) -> str:
    return _PROGRAM.format(
        name=program.name,
        command=_value(shlex.join(program.command)),
        environment=",".join(f'{name}="{_value(value)}"' for name, value in program.environment.items()),
        stop=program.stop_s,
        log=_value(str(layout.log(program.name))),
    )


def _value(text: str) -> str:
    """Check a value of supervisord's configuration: percent signs are expanded there, and some characters end a value."""
    if re.search(r"[%\n\r]|\s[;#]", text):
        msg = (
            "Expected a path without percent signs, line breaks, ' ;' and ' #', got one; choose another FETALMLOPS_HOME"
        )
        raise EmbeddedError(msg)
    return text
