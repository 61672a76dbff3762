from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))
    return tmp_path


def modes(home: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home / "secrets").iterdir()}


def test_keys_are_made_once(home: Path) -> None:
    first = runner.invoke(app, ["keys", "make"])
    kept = {path: path.read_bytes() for path in (home / "secrets").iterdir()}
    second = runner.invoke(app, ["keys", "make"])

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert modes(home) == {"pseudonym.key": 0o600, "vault.json": 0o600, "valkey.password": 0o600}
    assert "already" in second.stdout
    assert {path: path.read_bytes() for path in kept} == kept


def test_keys_for_services_of_another_user_are_readable_by_the_group_only(home: Path) -> None:
    assert runner.invoke(app, ["keys", "make", "--group"]).exit_code == 0
    assert set(modes(home).values()) == {0o440}


def test_no_key_is_shown(home: Path) -> None:
    shown = runner.invoke(app, ["keys", "make"]).stdout

    assert not any(path.read_text().strip() in shown for path in (home / "secrets").iterdir())


def test_lost_keys_are_not_replaced(home: Path) -> None:
    instance = home / "objects" / "phi" / "instances" / "1"
    instance.parent.mkdir(parents=True)
    instance.write_bytes(b"kept")

    done = runner.invoke(app, ["keys", "make"])

    assert done.exit_code == 78
    assert not (home / "secrets" / "pseudonym.key").exists()
