from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.gateway_keys import app
from fetalmlops.domain.errors import SettingsError
from fetalmlops.gateway.accounts import read_keys

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))
    return tmp_path


def test_a_key_is_printed_once_and_never_again(home: Path) -> None:
    key = runner.invoke(app, ["add", "ris"]).stdout.strip()
    assert read_keys(home / "secrets" / "gateway-keys.toml").find(key) == "ris"
    listed = runner.invoke(app, ["list", "--json"]).stdout
    assert json.loads(listed) == ["ris"]
    assert isinstance(runner.invoke(app, ["add", "ris"]).exception, SettingsError)
    assert runner.invoke(app, ["remove", "ris"]).exit_code == 0
    assert "nobody" in runner.invoke(app, ["list"]).stdout


def test_the_setting_names_another_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETALMLOPS_GATEWAY__KEYS_PATH", str(home / "elsewhere.toml"))
    assert runner.invoke(app, ["add", "ris"]).exit_code == 0
    assert (home / "elsewhere.toml").exists()
