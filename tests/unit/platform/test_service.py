"""The life of a process: when it is ready, and what its exit code says. Each runs as a process, as it does in the system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fetalmlops.platform.service import EXIT_CONFIGURATION, EXIT_RETRY

HEAD = """
import asyncio, json, sys, urllib.error, urllib.request
from fetalmlops.domain.errors import SettingsError, TransientError
from fetalmlops.platform.embedded.ports import choose_ports
from fetalmlops.platform.service import run_service
"""


def start(body: str, home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "FETALMLOPS_HOME": str(home), "FETALMLOPS_HEALTH__PORT": "0"}
    code = f"{HEAD}\n{textwrap.dedent(body)}\nrun_service('test', main)"
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_a_process_is_not_ready_before_it_says_what_it_waits_for(tmp_path: Path) -> None:
    body = """
    async def main(service):
        print(service.health.report()["waiting"][0]["for"])
        service.health.waiting_for("broker")
        service.started()
        print(*[item["for"] for item in service.health.report()["waiting"]])
        service.health.served_by("broker")
        print(service.health.ready)
    """
    process = start(body, tmp_path)
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["its start", "broker", "True"]
    assert process.returncode == 0


def test_sigterm_ends_a_process_in_order(tmp_path: Path) -> None:
    body = """
    async def main(service):
        service.started()
        print("up", flush=True)
        await service.stopping.wait()
        print("done", flush=True)
    """
    process = start(body, tmp_path)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert (output, process.returncode) == ("done\n", 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("SettingsError('Expected a key, got none; make it')", EXIT_CONFIGURATION),
        ("TransientError('Expected a port, got none; free it', dependency='port')", EXIT_RETRY),
        ("RuntimeError('a defect')", EXIT_RETRY),
    ],
)
def test_the_exit_code_says_who_has_to_act(tmp_path: Path, error: str, code: int) -> None:
    process = start(f"async def main(service):\n    raise {error}", tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == code
