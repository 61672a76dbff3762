"""A listener that dies with what it has acknowledged: another one, or the next one, brings every instance to its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetalmlops.domain.contracts.topics import INSTANCE_RECEIVED
from fetalmlops.platform.embedded.ports import choose_ports
from support.dcmtk import Storescu
from support.deployment import Deployment, deployed, send_with_dcmtk, table, wait_until
from support.instances import write_instances

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

HEADS = ("fault", "sent", "acknowledged", "announced", "results", "quarantined", "lost", "doubled")
SETTINGS = "[listener]\nsweep_interval_s = 1.0\nsweep_first_s = 5.0\n"


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed(SETTINGS) as running:
        yield running


@contextmanager
def second_listener(deployment: Deployment) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a second listener on the same state folder; yields it and its port."""
    port = choose_ports({"second": 0})["second"]
    environment = {
        **os.environ,
        "FETALMLOPS_HOME": str(deployment.home),
        "FETALMLOPS_LISTENER__PORT": str(port),
        "FETALMLOPS_HEALTH__PORT": "0",
    }
    with (deployment.home / "second.log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "fetalmlops.listener"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: accepts(port), 60)
        yield process, port
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_listener_is_killed_between_fsync_and_publish(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = write_instances(tmp_path, 100, first=10_000)
    before, stored, done = deployment.published(INSTANCE_RECEIVED), deployment.stored(), deployment.done()
    deployment.take_away("broker")
    sender = Storescu(list(uids), deployment.settings)
    assert sender.finish() == 0
    acknowledged = {deployment.instance(uids[path]) for path in sender.acknowledged}
    killed = deployment.pid("listener")
    deployment.kill("listener")
    wait_until(lambda: deployment.pid("listener") not in {0, killed}, 60)
    assert len(deployment.stored() - stored) == len(uids)
    assert deployment.done() == done
    deployment.bring_back("broker")
    account = deployment.wait_for(acknowledged, 120)
    announced = deployment.published(INSTANCE_RECEIVED) - before
    ends = len(acknowledged & account.results), len(acknowledged & account.quarantined), len(account.lost(acknowledged))
    with capsys.disabled():
        row = ("killed between fsync and publish", len(uids), len(acknowledged), announced, *ends, account.doubled)
        print(f"\n{table(HEADS, row)}")
    assert len(acknowledged) == len(uids)
    assert announced == len(uids)
    assert acknowledged <= account.results
    assert account.doubled == 0


@pytest.mark.parametrize("broker", ["away", "there"])
def test_one_of_two_listeners_on_one_store_is_destroyed(
    broker: str, deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = 20_000 if broker == "away" else 30_000
    to_one = write_instances(tmp_path / "one", 100, first=first)
    to_two = write_instances(tmp_path / "two", 300, first=first + 1000)
    before, survivor = deployment.published(INSTANCE_RECEIVED), deployment.pid("listener")
    if broker == "away":
        deployment.take_away("broker")
    with second_listener(deployment) as (process, port):
        senders = Storescu(list(to_one), deployment.settings), Storescu(list(to_two), deployment.settings, port)
        # With the broker away all that it took in is unpublished; otherwise it dies while it takes in.
        goal = len(to_two) if broker == "away" else len(to_two) // 2
        wait_until(lambda: len(senders[1].acknowledged) >= goal, 120)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for sender in senders:
            sender.finish()
    in_vain = [path for path in to_two if path not in senders[1].acknowledged]
    if in_vain:
        assert send_with_dcmtk(in_vain, deployment.settings) == set(in_vain)
    if broker == "away":
        deployment.bring_back("broker")
    uids = to_one | to_two
    acknowledged = {deployment.instance(uid) for uid in uids.values()}
    account = deployment.wait_for(acknowledged, 120)
    announced = deployment.published(INSTANCE_RECEIVED) - before
    ends = len(acknowledged & account.results), len(acknowledged & account.quarantined), len(account.lost(acknowledged))
    with capsys.disabled():
        fault = f"one of two destroyed, broker {broker}"
        print(f"\n{table(HEADS, (fault, len(uids), len(acknowledged), announced, *ends, account.doubled))}")
    assert senders[0].acknowledged == set(to_one)
    assert len(senders[1].acknowledged) >= goal
    assert bool(in_vain) is (broker == "there")
    assert deployment.pid("listener") == survivor
    assert acknowledged <= account.results
    assert account.doubled == 0
