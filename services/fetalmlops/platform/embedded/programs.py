"""The programs of the embedded system: two servers, then the services that use them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fetalmlops.platform.embedded.jars import find_jars
from fetalmlops.platform.embedded.kafka import broker_command
from fetalmlops.platform.embedded.valkey import valkey_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fetalmlops.platform.embedded.layout import Layout
    from fetalmlops.platform.settings import Settings

__all__ = [
    "BROKER",
    "OPTIONAL",
    "PROGRAMS",
    "SERVERS",
    "SERVICES",
    "SHADOW",
    "VALKEY",
    "Group",
    "Program",
    "chosen_programs",
    "health_name",
    "make_programs",
]

BROKER = "broker"
"""Name of the embedded Kafka."""

VALKEY = "valkey"
"""Name of the embedded key-value server."""

SERVERS = (BROKER, VALKEY)
"""What every service needs, started first and stopped last."""

SERVICES = ("listener", "anonymizer", "normalizer", "inference", "classifier", "keeper", "gateway")
"""Our own processes, each run as ``python -m fetalmlops.<name>``."""

PROGRAMS = SERVERS + SERVICES
"""Every program that always runs, in the order of the flow."""

SHADOW = "shadow"
"""Name of the process by which a shadow judges what the champion judges."""

OPTIONAL = (SHADOW,)
"""Processes that run where the settings ask for them."""

_COMMANDS = {SHADOW: ("fetalmlops.classifier", "--role", "shadow")}


class Group(StrEnum):
    """Programs that start and stop together."""

    SERVERS = "servers"
    SERVICES = "services"


@dataclass(frozen=True, kw_only=True)
class Program:
    """One supervised program.

    Parameters
    ----------
    name
        Name of the process.
    command
        Program and arguments.
    group
        With what it starts and stops.
    environment
        Variables that it gets beside the inherited ones.
    stop_s
        Seconds that it has to end after SIGTERM, before SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    group: Group
    environment: Mapping[str, str]
    stop_s: int


def chosen_programs(settings: Settings) -> tuple[str, ...]:
    """Return the programs that the settings ask for."""
    return (*PROGRAMS, SHADOW) if settings.inference.shadow else PROGRAMS


def health_name(service: str) -> str:
    """Return the name under which the port of a service's health endpoint is recorded."""
    return f"health.{service}"


def make_programs(layout: Layout, names: Iterable[str], ports: Mapping[str, int]) -> list[Program]:
    """Return the programs with these names.

    Parameters
    ----------
    layout
        The state folder.
    names
        Which of `PROGRAMS` and `OPTIONAL`.
    ports
        Name to port, with a health port for each service.

    Raises
    ------
    EmbeddedError
        If the broker's jars or a server's program are missing.
    """
    chosen = set(names)
    programs = []
    if BROKER in chosen:
        command = broker_command(layout, find_jars())
        programs.append(Program(name=BROKER, command=command, group=Group.SERVERS, environment={}, stop_s=30))
    if VALKEY in chosen:
        command = valkey_command(layout)
        programs.append(Program(name=VALKEY, command=command, group=Group.SERVERS, environment={}, stop_s=10))
    return programs + [_service(name, ports[health_name(name)]) for name in SERVICES + OPTIONAL if name in chosen]


def _service(name: str, port: int) -> Program:
    # -P: the working folder is the state folder, and nothing in it may be imported by accident.
    return Program(
        name=name,
        command=(sys.executable, "-P", "-m", *_COMMANDS.get(name, (f"fetalmlops.{name}",))),
        group=Group.SERVICES,
        environment={"FETALMLOPS_HEALTH__PORT": str(port)},
        stop_s=40,
    )
