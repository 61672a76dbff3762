from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fetalmlops.platform.embedded.ports import choose_ports, port_is_free, read_ports, write_ports


def free_port() -> int:
    return choose_ports({"any": 0})["any"]


def test_a_wanted_port_is_kept_while_it_is_free() -> None:
    port = free_port()

    assert choose_ports({"broker": port}) == {"broker": port}


def test_a_taken_port_is_replaced() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        chosen = choose_ports({"broker": port})["broker"]

    assert chosen != port
    assert port_is_free(chosen)


def test_no_port_is_given_twice() -> None:
    port = free_port()
    chosen = choose_ports({"one": port, "two": port} | {f"other{number}": 0 for number in range(50)})

    assert len(set(chosen.values())) == 52


def test_found_ports_are_none_that_clients_are_given() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert all(port < first for port in choose_ports({str(number): 0 for number in range(20)}).values())


def test_recorded_ports_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    write_ports(path, {"broker": 9092, "health.listener": 20001})

    assert read_ports(path) == {"broker": 9092, "health.listener": 20001}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"broker": "x", "valkey": 99999}'])
def test_what_is_no_record_is_ignored(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ports.json"
    path.write_text(text)

    assert read_ports(path) == {}


def test_a_missing_record_is_empty(tmp_path: Path) -> None:
    assert read_ports(tmp_path / "none") == {}
