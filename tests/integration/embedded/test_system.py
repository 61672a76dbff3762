"""The embedded system with real servers: started twice, killed, robbed of its supervisor, moved to other ports."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fetalmlops.domain.contracts.topics import INSTANCE_RECEIVED, TOPICS
from fetalmlops.platform.embedded import EmbeddedError, EmbeddedSystem
from fetalmlops.platform.embedded.configuration import recorded_ports
from fetalmlops.platform.embedded.orphans import find_orphans
from fetalmlops.platform.embedded.ports import choose_ports
from fetalmlops.platform.embedded.programs import SERVERS
from fetalmlops.platform.embedded.status import fetch_status
from fetalmlops.platform.keyvalue import open_valkey_blocking
from fetalmlops.platform.provisioning import broker_answers, open_admin
from fetalmlops.platform.settings import Settings


@pytest.fixture
def system(tmp_path: Path) -> Iterator[EmbeddedSystem]:
    made = EmbeddedSystem(tmp_path / "home", usual_ports=False)
    try:
        yield made
    finally:
        made.down()


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def topic_names(settings: Settings) -> set[str]:
    with open_admin(settings.kafka) as admin:
        return set(admin.list_topics())


def pids(system: EmbeddedSystem) -> dict[str, int]:
    return {name: state.pid for name, state in system.supervisor.states().items() if state.alive}


def test_up_twice_starts_once_and_down_leaves_nothing(system: EmbeddedSystem) -> None:
    steps: list[tuple[str, str]] = []
    began = time.monotonic()
    system.up(SERVERS)
    first = time.monotonic() - began
    before = pids(system)
    settings = system.up(SERVERS, report=lambda name, state: steps.append((name, state)))

    assert first < 30
    assert pids(system) == before
    assert ("broker", "starting") not in steps
    assert ("broker", "ready") in steps
    assert {topic.name for topic in TOPICS} <= topic_names(settings)

    assert system.down()
    assert not system.down()
    assert not any(psutil.pid_exists(pid) for pid in before.values())
    assert find_orphans(system.layout) == []
    assert not broker_answers(settings.kafka)


def test_killed_servers_come_back_with_their_data(system: EmbeddedSystem) -> None:
    settings = system.up(SERVERS)
    with open_valkey_blocking(settings) as valkey:
        valkey.set("kept", "yes")
    for name, pid in pids(system).items():
        os.kill(pid, signal.SIGKILL)
        assert name in SERVERS
    wait_until(lambda: broker_answers(settings.kafka), 30)

    with open_valkey_blocking(settings) as valkey:
        assert valkey.get("kept") in {"yes", b"yes"}
    assert {topic.name for topic in TOPICS} <= topic_names(settings)
    restarts = {process.name: process.restarts for process in fetch_status(system).processes}
    assert restarts["broker"] == restarts["valkey"] == 1


def test_a_lost_supervisor_is_replaced_and_its_processes_end(system: EmbeddedSystem) -> None:
    settings = system.up(SERVERS)
    with open_valkey_blocking(settings) as valkey:
        valkey.set("kept", "yes")
    before = pids(system)
    supervisor = system.supervisor.pid()
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not system.supervisor.is_running(), 10)
    assert {process.pid for process in find_orphans(system.layout)} == set(before.values())

    steps: list[tuple[str, str]] = []
    again = system.up(SERVERS, report=lambda name, state: steps.append((name, state)))

    assert ("supervisor", "ended what a lost supervisor had left behind") in steps
    assert not any(psutil.pid_exists(pid) for pid in before.values())
    assert again.kafka == settings.kafka
    with open_valkey_blocking(again) as valkey:
        assert valkey.get("kept") in {"yes", b"yes"}


def test_down_ends_what_a_lost_supervisor_left(system: EmbeddedSystem) -> None:
    system.up(["valkey"])
    before = pids(system)
    os.kill(system.supervisor.pid() or 0, signal.SIGKILL)
    wait_until(lambda: not system.supervisor.is_running(), 10)

    assert system.down()
    assert not any(psutil.pid_exists(pid) for pid in before.values())


def test_a_port_that_was_taken_meanwhile_is_left_to_the_other(system: EmbeddedSystem) -> None:
    system.up(SERVERS)
    before = recorded_ports(system.layout)
    system.down()
    with (
        socket.create_server(("127.0.0.1", before["broker"])),
        socket.create_server(("127.0.0.1", before["controller"])),
    ):
        settings = system.up(SERVERS)

    after = recorded_ports(system.layout)
    assert after["broker"] != before["broker"]
    assert after["valkey"] == before["valkey"]
    assert {topic.name for topic in TOPICS} <= topic_names(settings)


def test_a_chosen_port_that_is_taken_is_named(system: EmbeddedSystem) -> None:
    port = choose_ports({"listener": 0})["listener"]
    system.layout.prepare()
    (system.layout.home / "fetalmlops.toml").write_text(f"[listener]\nport = {port}\n")
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(EmbeddedError, match=f"Expected port {port} of listener to be free"),
    ):
        system.up(SERVERS)


def test_chosen_ports_are_used(system: EmbeddedSystem) -> None:
    chosen = choose_ports({"broker": 0, "valkey": 0})
    system.layout.prepare()
    (system.layout.home / "fetalmlops.toml").write_text(
        f'[kafka]\nbootstrap_servers = "127.0.0.1:{chosen["broker"]}"\n[valkey]\nport = {chosen["valkey"]}\n'
    )
    settings = system.up(SERVERS)

    assert settings.kafka.bootstrap_servers == f"127.0.0.1:{chosen['broker']}"
    assert broker_answers(settings.kafka)
    assert settings.valkey.port == chosen["valkey"]


def test_a_broker_elsewhere_is_not_embedded(system: EmbeddedSystem, embedded: Settings) -> None:
    system.layout.prepare()
    # Two addresses of one broker: anything but a single loopback address is somebody else's.
    address = embedded.kafka.bootstrap_servers
    (system.layout.home / "fetalmlops.toml").write_text(f'[kafka]\nbootstrap_servers = "{address},{address}"\n')
    settings = system.up(SERVERS)

    assert pids(system).keys() == {"valkey"}
    assert INSTANCE_RECEIVED.name in topic_names(settings)
    assert next(process for process in fetch_status(system).processes if process.name == "broker").health == "elsewhere"


def test_a_process_that_keeps_ending_is_named_with_its_last_words(system: EmbeddedSystem) -> None:
    system.up(SERVERS)
    with (
        socket.create_server(("127.0.0.1", recorded_ports(system.layout)["health.keeper"])),
        pytest.raises(EmbeddedError) as caught,
    ):
        system.up((*SERVERS, "keeper"))

    assert "Expected keeper to stay up" in str(caught.value)
    assert "Address already in use" in str(caught.value)
    assert {"broker", "valkey"} <= pids(system).keys()

    system.up((*SERVERS, "keeper"))
    assert "keeper" in pids(system)


def test_two_commands_do_not_start_the_same_system(system: EmbeddedSystem) -> None:
    system.layout.prepare()
    with system._alone(), pytest.raises(EmbeddedError, match="another up or down at work"):
        system.up(["valkey"])


def test_a_long_and_odd_state_folder_works(tmp_path: Path) -> None:
    system = EmbeddedSystem(tmp_path / ("long folder" * 12) / "it's h\u00f6me", usual_ports=False)
    try:
        settings = system.up(SERVERS)
        assert broker_answers(settings.kafka)
    finally:
        system.down()
