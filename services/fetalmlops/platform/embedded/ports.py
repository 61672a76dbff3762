"""Ports: the usual one where it is free, otherwise one that no other program holds; the same again at the next start."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["choose_ports", "port_is_free", "read_ports", "write_ports"]

# Below the ports that Linux gives to outgoing connections (32768 up): while a server is away, a client that keeps
# trying such a port can be given that very port for itself and end up connected to itself.
_RANGE = range(20_000, 30_000)


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on a port now.

    Examples
    --------
    >>> with socket.create_server(("127.0.0.1", 0)) as server:
    ...     port_is_free(server.getsockname()[1])
    False
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Return a free port for each name.

    Parameters
    ----------
    wanted
        Name to the port that it had before or usually has; 0 for none.

    Returns
    -------
    dict
        Name to port, all different: the wanted one where it is free.
    """
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        usable = port > 0 and port not in chosen.values() and port_is_free(port)
        chosen[name] = port if usable else _another(set(chosen.values()) | set(wanted.values()))
    return chosen


def read_ports(path: Path) -> dict[str, int]:
    """Return the ports that `write_ports` recorded; empty if there are none that can be read."""
    with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):
        values = json.loads(path.read_text("utf-8"))
        return {name: port for name, port in values.items() if isinstance(port, int) and 0 < port < 65536}
    return {}


def write_ports(path: Path, ports: Mapping[str, int]) -> None:
    """Record the ports for the next start and for `status`."""
    write_file(path, json.dumps(dict(ports), indent=2) + "\n")


def _another(taken: set[int]) -> int:
    return next(port for port in random.sample(_RANGE, len(_RANGE)) if port not in taken and port_is_free(port))
