from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from fetalmlops.platform.embedded import EmbeddedError
from fetalmlops.platform.embedded.layout import Layout
from fetalmlops.platform.embedded.programs import (
    PROGRAMS,
    SERVERS,
    SERVICES,
    SHADOW,
    Group,
    Program,
    chosen_programs,
    health_name,
    make_programs,
)
from fetalmlops.platform.embedded.supervision import Supervisor
from fetalmlops.platform.embedded.supervisord import supervisord_configuration
from fetalmlops.platform.settings import Settings


def program(name: str, *command: str, group: Group = Group.SERVICES) -> Program:
    return Program(name=name, command=command, group=group, environment={"FETALMLOPS_HEALTH__PORT": "20001"}, stop_s=40)


def read_back(folder: Path, programs: list[Program]) -> ServerOptions:
    """Read a configuration as supervisord itself does."""
    layout = Layout(folder)
    layout.prepare()
    path = layout.run / "supervisord.conf"
    path.write_text(
        supervisord_configuration(
            layout, programs, socket=layout.run / "s.sock", pid_file=layout.run / "supervisord.pid"
        )
    )
    options = ServerOptions()
    options.realize(["-c", str(path)])
    return options


@pytest.mark.parametrize("name", ["plain", "with space", "it's", 'quo"te', "a;b#c", "\u00fcn\u00efcode"])
def test_any_usual_path_survives(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    options = read_back(folder, [program("keeper", str(folder / "a program"), "-m", "keeper")])

    (group,) = options.process_group_configs
    (config,) = group.process_configs
    assert options.pidfile == str(folder / "run" / "supervisord.pid")
    assert shlex.split(config.command) == [str(folder / "a program"), "-m", "keeper"]
    assert config.stdout_logfile == str(folder / "logs" / "keeper.log")
    assert config.environment["FETALMLOPS_HEALTH__PORT"] == "20001"


@pytest.mark.parametrize("name", ["100% sure", "new\nline", "note ;comment", "note #comment"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedError, match="choose another FETALMLOPS_HOME"):
        read_back(tmp_path / name, [program("keeper", "true")])


def test_programs_restart_without_end_and_leave_no_children(tmp_path: Path) -> None:
    (group,) = read_back(tmp_path, [program("keeper", "true")]).process_group_configs
    (config,) = group.process_configs

    assert config.startretries >= 1_000_000
    assert config.autorestart.__name__ == "RestartUnconditionally"
    assert config.killasgroup
    assert not config.autostart
    assert config.stopwaitsecs == 40
    assert config.redirect_stderr
    assert config.stdout_logfile_maxbytes == 10 * 1024**2


def test_servers_start_first_and_stop_last(tmp_path: Path) -> None:
    programs = [program("keeper", "true"), program("broker", "true", group=Group.SERVERS)]
    groups = {group.name: group.priority for group in read_back(tmp_path, programs).process_group_configs}

    assert groups["servers"] < groups["services"]


def test_each_service_gets_a_health_port_of_its_own(tmp_path: Path) -> None:
    ports = {health_name(name): 20000 + number for number, name in enumerate(SERVICES)}
    programs = make_programs(Layout(tmp_path), SERVICES, ports)

    assert [made.name for made in programs] == list(SERVICES)
    assert len({made.environment["FETALMLOPS_HEALTH__PORT"] for made in programs}) == len(SERVICES)
    assert programs[0].command[-2:] == ("-m", "fetalmlops.listener")
    assert PROGRAMS == SERVERS + SERVICES


def test_a_shadow_runs_where_the_settings_ask_for_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert chosen_programs(settings) == PROGRAMS
    inference = settings.inference.model_copy(update={"shadow": True})
    chosen = chosen_programs(settings.model_copy(update={"inference": inference}))
    assert chosen == (*PROGRAMS, SHADOW)
    (made,) = make_programs(Layout(tmp_path), [SHADOW], {health_name(SHADOW): 20000})
    assert made.command[-3:] == ("fetalmlops.classifier", "--role", "shadow")


def test_a_long_state_folder_gets_a_short_private_socket(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    socket = Supervisor(Layout(home))._socket

    assert len(os.fsencode(socket)) < 90
    assert socket.is_relative_to(tempfile.gettempdir())
    assert socket == Supervisor(Layout(home))._socket
    assert socket != Supervisor(Layout(home / "other"))._socket


def test_a_socket_folder_that_others_made_is_refused(tmp_path: Path) -> None:
    supervisor = Supervisor(Layout(tmp_path / ("long" * 30)))
    real = tmp_path / "elsewhere"
    real.mkdir()
    supervisor._socket.parent.symlink_to(real)
    try:
        with pytest.raises(EmbeddedError, match="a private folder of this user"):
            supervisor.launch([])
    finally:
        supervisor._socket.parent.unlink()


def test_a_process_id_of_another_program_is_not_ours(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    (layout.run / "supervisord.pid").write_text(str(os.getpid()))

    assert Supervisor(layout).pid() is None
    assert not Supervisor(layout).is_running()
