from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from fetalmlops.platform.deid.keys import make_missing_keys, pseudonym_key_file
from fetalmlops.platform.embedded import EmbeddedSystem, doctor, valkey
from fetalmlops.platform.embedded.doctor import CHECKS, Finding, Level, examine
from fetalmlops.platform.embedded.ports import choose_ports, write_ports
from fetalmlops.platform.settings import load_settings


@pytest.fixture
def system(tmp_path: Path) -> EmbeddedSystem:
    return EmbeddedSystem(tmp_path / "home", usual_ports=False)


@pytest.fixture
def prepared(system: EmbeddedSystem) -> EmbeddedSystem:
    system.layout.prepare()
    make_missing_keys(load_settings(system.layout.home).model_copy(update={"provision_keys": True}))
    return system


def find(system: EmbeddedSystem, check: str) -> Finding:
    return next(finding for finding in examine(system) if finding.check == check)


def test_a_new_machine_has_no_problem(system: EmbeddedSystem) -> None:
    findings = examine(system)

    assert [finding.check for finding in findings] == list(CHECKS)
    assert [finding for finding in findings if finding.level is Level.PROBLEM and finding.check != "kafka"] == []
    assert not system.layout.home.exists()


def test_missing_jars_are_found(system: EmbeddedSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETALMLOPS_CACHE", str(tmp_path))

    assert find(system, "kafka").level is Level.PROBLEM
    assert "fetalmlops setup" in find(system, "kafka").text


def test_an_open_key_is_found(prepared: EmbeddedSystem) -> None:
    pseudonym_key_file(load_settings(prepared.layout.home)).chmod(0o644)

    assert find(prepared, "keys").level is Level.PROBLEM
    assert "chmod 600" in find(prepared, "keys").text


def test_an_open_state_folder_is_found(prepared: EmbeddedSystem) -> None:
    prepared.layout.home.chmod(0o755)

    assert "chmod 700" in find(prepared, "state folder").text


def test_another_layout_is_found(prepared: EmbeddedSystem) -> None:
    prepared.layout.version_file.write_text("99")

    assert "layout version" in find(prepared, "state folder").text


def test_wrong_settings_are_found(prepared: EmbeddedSystem) -> None:
    (prepared.layout.home / "fetalmlops.toml").write_text("[listener]\nport = 99999\n")

    assert find(prepared, "settings").level is Level.PROBLEM
    assert "listener.port" in find(prepared, "settings").text


def test_a_table_that_lists_nobody_is_found(prepared: EmbeddedSystem) -> None:
    (prepared.layout.home / "sources.toml").touch()

    assert find(prepared, "sources").level is Level.WARNING
    assert "every sender is refused" in find(prepared, "sources").text


def test_a_taken_port_is_found(prepared: EmbeddedSystem) -> None:
    port = choose_ports({"broker": 0})["broker"]
    write_ports(prepared.layout.run / "ports.json", {"broker": port})
    with socket.create_server(("127.0.0.1", port)):
        assert find(prepared, "ports").level is Level.WARNING
        assert f"{port} (broker)" in find(prepared, "ports").text


def test_a_nearly_full_disk_is_found(prepared: EmbeddedSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage)

    assert find(prepared, "disk").level is Level.PROBLEM
    assert "0xA700" in find(prepared, "disk").text


def test_a_clock_in_the_past_is_found(prepared: EmbeddedSystem) -> None:
    log = prepared.layout.log("listener")
    log.touch()
    future = log.stat().st_mtime + 3600
    os.utime(log, (future, future))

    assert find(prepared, "clock").level is Level.PROBLEM


def test_a_valkey_of_the_system_serves(system: EmbeddedSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = valkey._packaged()
    assert packaged
    program = tmp_path / "bin" / "redis-server"
    program.parent.mkdir()
    program.symlink_to(packaged)
    monkeypatch.setattr(valkey, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(program.parent))

    assert find(system, "valkey").level is Level.OK
    assert str(program) in find(system, "valkey").text


def test_a_machine_without_valkey_is_told_what_to_install(
    system: EmbeddedSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find(system, "valkey").level is Level.PROBLEM
    assert "install `valkey-server` or `redis-server`" in find(system, "valkey").text


def test_the_examination_leaves_nothing(prepared: EmbeddedSystem) -> None:
    before = {path: stat.S_IMODE(path.lstat().st_mode) for path in prepared.layout.home.rglob("*")}
    examine(prepared)

    assert {path: stat.S_IMODE(path.lstat().st_mode) for path in prepared.layout.home.rglob("*")} == before
