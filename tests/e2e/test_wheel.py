"""The built wheel, installed in a clean environment away from the clone, runs the system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTANCES = 4
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path, seconds: float = 300) -> str:
    kept = {"PATH", "HOME", "FETALMLOPS_CACHE", "XDG_CACHE_HOME", "UV_CACHE_DIR", "UV_DEFAULT_INDEX"}
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in kept or name.endswith(("_proxy", "_PROXY")) or "SSL" in name or "CERT" in name or "CA_" in name
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build, install, and return the command."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        pytest.skip("uv is not installed here; `make setup` installs it")
    folder = tmp_path_factory.mktemp("wheel")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("fetalmlops-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    install = (uv, "pip", "install", "--quiet", "--python", python)
    run(*install, "--require-hashes", "-r", ROOT / "requirements" / "base.txt", cwd=folder, seconds=600)
    run(*install, "--no-deps", wheel, cwd=folder)
    return folder / "venv" / "bin" / "fetalmlops"


def test_the_wheel_runs_the_system(program: Path, tmp_path: Path) -> None:
    def fetalmlops(*arguments: str) -> str:
        return run(program, *arguments, cwd=tmp_path)

    fetalmlops("setup")
    try:
        assert "Send DICOM to" in fetalmlops("up")
        fetalmlops("simulate", "--instances", str(INSTANCES))
        lines = fetalmlops("results", "--expect", str(INSTANCES), "--json").splitlines()
        assert len({json.loads(line)["context"]["instance"] for line in lines}) == INSTANCES
        status = json.loads(fetalmlops("status", "--json"))
        assert status["ready"]
        assert status["home"] == str(tmp_path / ".fetalmlops")
        assert sum(process["memory_bytes"] for process in status["processes"]) < 3 * 1024**3
        assert "runs already" in fetalmlops("up")
    finally:
        fetalmlops("down", "--purge", "--yes")
    assert list(tmp_path.iterdir()) == []
