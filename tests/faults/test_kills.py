"""Every process is killed while instances pass: nothing that was acknowledged is lost, and nothing is doubled."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from support.dcmtk import Pacs
from support.deployment import PROCESSES, Deployment, deployed, table, wait_until
from support.instances import SCREEN, write_instances

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

INSTANCES = 1000
ORDER = ("classifier", "inference", "normalizer", "anonymizer", "valkey", "listener", "broker")
"""From the end of the way to its beginning, so that each one has work when it is killed."""


def kill_all(deployment: Deployment, pacs: Pacs) -> list[float]:
    """Kill one process after the other, spread over what is sent; return when."""
    step = INSTANCES // (len(ORDER) + 1)
    return [kill_one(deployment, pacs, process, number * step) for number, process in enumerate(ORDER, start=1)]


def kill_one(deployment: Deployment, pacs: Pacs, process: str, goal: int) -> float:
    """Kill a process once so many instances are acknowledged, and wait until it is started again."""
    wait_until(lambda: len(pacs.acknowledged) >= goal, 120)
    assert pacs.sending
    before, moment = deployment.pid(process), time.time()
    deployment.kill(process)
    wait_until(lambda: deployment.pid(process) not in {0, before}, 60)
    return moment


@pytest.mark.parametrize("studies", [1, 20])
def test_every_process_is_killed_once(studies: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uids = write_instances(tmp_path, INSTANCES, studies=studies, spec=SCREEN)
    assert set(ORDER) == set(PROCESSES)
    with deployed() as deployment:
        pacs = Pacs(list(uids), deployment.settings, associations=4)
        times = kill_all(deployment, pacs)
        pacs.finish()
        sent, acknowledged = pacs.first_sent(), pacs.acknowledged
        begun = time.monotonic()
        account = deployment.wait_for({deployment.instance(uids[path]) for path in acknowledged}, 300)
        took_s = time.monotonic() - begun
        rows = []
        for fault, start, end in zip(("none yet", *ORDER), (0.0, *times), (*times, float("inf")), strict=True):
            files = {path for path, moment in sent.items() if start <= moment < end}
            kept = {deployment.instance(uids[path]) for path in files & acknowledged}
            ended = len(kept & account.results), len(kept & account.quarantined - account.results)
            rows.append((fault, len(files), len(kept), *ended, len(account.lost(kept)), account.doubled_of(kept)))
    with capsys.disabled():
        heads = ("kill -9 of", "sent", "acknowledged", "results", "quarantined", "lost", "doubled")
        print(f"\n{INSTANCES} instances, {studies} studies; each row is what was sent from that kill to the next")
        print(table(heads, *rows, ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))))
        print(f"the last result {took_s:.0f} s after the last C-STORE")
    assert len(acknowledged) == INSTANCES
    assert len(account.results) == INSTANCES
    assert not any(row[5] for row in rows)
    assert account.doubled == 0
    assert all(row[1] for row in rows), "a process was killed when nothing was sent any more"
