"""``fetalmlops intended-use`` shows what counts here, and checks files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.learning.intended_use import intended_use_digest
from fetalmlops.platform.learning.intended_use import packaged_intended_use

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_HOME", str(tmp_path))
    return tmp_path


def test_the_state_folders_file_wins_over_the_packaged_one(home: Path) -> None:
    packaged = json.loads(runner.invoke(app, ["intended-use", "show", "--json"]).stdout)
    assert packaged["digest"] == intended_use_digest(packaged_intended_use())
    (home / "intended_use.toml").write_bytes(packaged_intended_use().replace(b"ece = 0.05", b"ece = 0.04"))
    own = json.loads(runner.invoke(app, ["intended-use", "show", "--json"]).stdout)
    assert own["calibration"]["ece"] == 0.04
    assert own["digest"] != packaged["digest"]


def test_the_proposal_can_be_copied_and_passes_its_check(home: Path) -> None:
    copy = home / "own.toml"
    copy.write_text(runner.invoke(app, ["intended-use", "show", "--toml"]).stdout)
    assert copy.read_bytes() == packaged_intended_use()
    result = runner.invoke(app, ["intended-use", "check", str(copy)])
    assert result.exit_code == 0
    assert "a site confirms them" in result.stdout


def test_the_table_names_every_floor() -> None:
    shown = runner.invoke(app, ["intended-use", "show"], env={"COLUMNS": "200"}).stdout
    for name in ("accuracy.plane_recall.femur", "selective.risk", "budgets.latency_p95_ms", "H8"):
        assert name in shown


def test_a_wrong_or_absent_file_ends_with_an_exit_code(home: Path) -> None:
    (home / "wrong.toml").write_text("format = 1")
    assert runner.invoke(app, ["intended-use", "check", str(home / "wrong.toml")]).exit_code == 1
    assert runner.invoke(app, ["intended-use", "check", str(home / "absent.toml")]).exit_code == 78
