"""The configuration of the embedded system: ports found, credentials made, settings and server files written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tomli_w

from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.deid.keys import load_valkey_password, make_missing_keys
from fetalmlops.platform.dicom.sources import write_default_sources
from fetalmlops.platform.embedded.errors import EmbeddedError
from fetalmlops.platform.embedded.files import write_file
from fetalmlops.platform.embedded.kafka import configure_broker
from fetalmlops.platform.embedded.ports import choose_ports, port_is_free, read_ports, write_ports
from fetalmlops.platform.embedded.programs import BROKER, OPTIONAL, SERVICES, VALKEY, chosen_programs, health_name
from fetalmlops.platform.embedded.valkey import configure_valkey
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fetalmlops.platform.embedded.layout import Layout
    from fetalmlops.platform.settings import Settings

__all__ = ["Configuration", "configure", "recorded_ports"]

_CONTROLLER = "controller"
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})

_USUAL_PORTS = {BROKER: 9092, _CONTROLLER: 9093, VALKEY: 6379, "listener": 11112, "inference": 0, "gateway": 8080}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What the embedded system runs with.

    Parameters
    ----------
    settings
        The settings of every service.
    ports
        Name to port, with a health port for each service.
    programs
        Names of the programs that are embedded: a server that the settings place elsewhere is not.
    """

    settings: Settings
    ports: Mapping[str, int]
    programs: tuple[str, ...]


def configure(layout: Layout, *, usual_ports: bool = True) -> Configuration:
    """Make keys, find ports and write every file that the servers and services start from.

    Parameters
    ----------
    layout
        The state folder, prepared.
    usual_ports
        Whether to prefer the usual ports (9092, 6379, 11112, 8080) at the first start; otherwise any free ones.

    Raises
    ------
    EmbeddedError
        If a port that a person chose is taken.
    SettingsError
        If settings are wrong or keys are lost.
    """
    make_missing_keys(load_settings(layout.home).model_copy(update={"provision_keys": True}))
    ports = _propose(layout, usual_ports=usual_ports)
    settings = _write_settings(layout, ports)
    programs = tuple(name for name in chosen_programs(settings) if not _is_elsewhere(settings, name))
    ports.update(_chosen(settings, programs))
    _check_chosen(settings, ports, programs)
    write_ports(_ports_file(layout), ports)
    write_default_sources(settings.sources_file)
    if BROKER in programs:
        configure_broker(layout, port=ports[BROKER], controller_port=ports[_CONTROLLER])
    if VALKEY in programs:
        configure_valkey(layout, port=ports[VALKEY], password=settings.valkey.password.get_secret_value())
    return Configuration(settings=settings, ports=ports, programs=programs)


def recorded_ports(layout: Layout) -> dict[str, int]:
    """Return the ports that the last `configure` chose, by name."""
    return read_ports(_ports_file(layout))


def _propose(layout: Layout, *, usual_ports: bool) -> dict[str, int]:
    names = [*_USUAL_PORTS, *(health_name(service) for service in SERVICES + OPTIONAL)]
    before = recorded_ports(layout)
    usual = _USUAL_PORTS if usual_ports else {}
    return choose_ports({name: before.get(name) or usual.get(name, 0) for name in names})


def _write_settings(layout: Layout, ports: Mapping[str, int]) -> Settings:
    """Write what was found as the settings' lowest layer, and return what holds: a person's own settings win."""
    password = load_valkey_password(load_settings(layout.home))
    values = {
        "provision_keys": True,
        "kafka": {"bootstrap_servers": f"127.0.0.1:{ports[BROKER]}"},
        "valkey": {"host": "127.0.0.1", "port": ports[VALKEY], "password": password},
        "listener": {"port": ports["listener"]},
        "inference": {"port": ports["inference"]},
        "gateway": {"port": ports["gateway"]},
    }
    text = "# Written by `fetalmlops up`; your own settings go to ../fetalmlops.toml, which wins.\n" + tomli_w.dumps(
        values
    )
    write_file(layout.embedded_file, text)
    return load_settings(layout.home)


def _is_elsewhere(settings: Settings, name: str) -> bool:
    if name == BROKER:
        return _broker_port(settings) is None
    return name == VALKEY and settings.valkey.host not in _LOOPBACK


def _broker_port(settings: Settings) -> int | None:
    """Return the port of a single broker on this machine; None for a broker elsewhere, or several."""
    host, _, port = settings.kafka.bootstrap_servers.strip().rpartition(":")
    return int(port) if host in _LOOPBACK and port.isdecimal() else None


def _chosen(settings: Settings, programs: tuple[str, ...]) -> dict[str, int]:
    """Return the ports that the settings ask for; 0 leaves the choice to us."""
    wanted = {
        "listener": settings.listener.port,
        "inference": settings.inference.port,
        "gateway": settings.gateway.port,
    }
    if BROKER in programs:
        wanted[BROKER] = _broker_port(settings) or 0
    if VALKEY in programs:
        wanted[VALKEY] = settings.valkey.port
    for name, port in wanted.items():
        if port == 0:
            msg = (
                f"Expected a port for {name} in the settings, got 0; name one, or remove the setting to have one found"
            )
            raise SettingsError(msg)
    return wanted


def _check_chosen(settings: Settings, ports: Mapping[str, int], programs: tuple[str, ...]) -> None:
    hosts = {
        "listener": settings.listener.host,
        "inference": settings.inference.host,
        "gateway": settings.gateway.host,
    }
    for name in (_CONTROLLER, *programs):
        if name in ports and not port_is_free(ports[name], hosts.get(name, "127.0.0.1")):
            msg = (
                f"Expected port {ports[name]} of {name} to be free, got one that another program holds; end that program, "
                "or choose another port in fetalmlops.toml"
            )
            raise EmbeddedError(msg)


def _ports_file(layout: Layout) -> Path:
    return layout.run / "ports.json"
