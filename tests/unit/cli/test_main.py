from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import COMMANDS, app
from fetalmlops.domain.errors import FetalMLOpsError, SettingsError

runner = CliRunner()


@pytest.fixture(autouse=True)
def no_home_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option --home sets the variable for the process: here, for one test."""
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))


def test_help_lists_every_command_and_imports_none() -> None:
    code = "import sys\nfrom fetalmlops.cli.main import app\ntry: app(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    for name, command in COMMANDS.items():
        assert name in done.stdout
        assert command.target.partition(":")[0] not in done.stdout.split()
    assert not {"kafka", "aiokafka", "pydicom", "numpy", "pydantic"} & set(done.stdout.split())


def test_help_is_there_at_once() -> None:
    times = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", "from fetalmlops.cli.main import app; app(['--help'])"],
            capture_output=True,
            timeout=60,
            check=True,
        )
        times.append(time.monotonic() - began)

    assert min(times) < 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = runner.invoke(app, [name, "--help"])

    assert result.exit_code == 0, result.output
    assert f"{name} " in result.output


def test_a_mistyped_command_is_guessed() -> None:
    result = runner.invoke(app, ["statsu"])

    assert result.exit_code == 2
    assert "status" in result.output


@pytest.mark.parametrize(("error", "code"), [(SettingsError("mend this"), 78), (FetalMLOpsError("mend that"), 1)])
def test_an_error_is_one_line_and_a_code(error: FetalMLOpsError, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from fetalmlops.cli import watch

    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(watch, "fetch_status", fail)
    result = runner.invoke(app, ["status"])

    assert result.exit_code == code
    assert result.stderr == f"{error}\n"
    assert isinstance(runner.invoke(app, ["--debug", "status"]).exception, type(error))


def test_a_system_that_was_not_started_is_said_so(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--home", str(tmp_path / "home"), "status", "--json"])

    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "home": str(tmp_path / "home"),
        "running": False,
        "ready": False,
        "processes": [],
    }


def test_down_without_a_system_is_harmless(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--home", str(tmp_path / "home"), "down"])

    assert result.exit_code == 0
    assert "Nothing ran" in result.stdout
    assert not (tmp_path / "home").exists()


def test_purge_asks(tmp_path: Path) -> None:
    from fetalmlops.platform.embedded.layout import Layout

    home = tmp_path / "home"
    Layout(home).prepare()
    assert runner.invoke(app, ["--home", str(home), "down", "--purge"], input="n\n").exit_code == 1
    assert home.exists()
    assert runner.invoke(app, ["--home", str(home), "down", "--purge"], input="y\n").exit_code == 0
    assert not home.exists()


def test_purge_leaves_a_folder_that_is_no_state_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    runner.invoke(app, ["--home", str(tmp_path), "down", "--purge", "--yes"])

    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("command", ["up", "down", "logs"])
def test_an_unknown_process_is_refused(command: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["--home", str(tmp_path / "home"), command, "kafka"])

    assert result.exit_code == 1
    assert "got kafka" in result.stderr


def test_logs_show_the_last_lines_of_each(tmp_path: Path) -> None:
    from fetalmlops.platform.embedded.layout import Layout

    layout = Layout(tmp_path / "home")
    layout.prepare()
    layout.log("listener").write_text("one\ntwo\n")
    layout.log("keeper").write_text("three\n")
    home = ["--home", str(layout.home)]

    assert runner.invoke(app, [*home, "logs", "-n", "1"]).stdout.split() == ["listener", "two", "keeper", "three"]
    assert runner.invoke(app, [*home, "logs", "listener"]).stdout == "one\ntwo\n"
