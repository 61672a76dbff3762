"""The broker is away for a minute: C-STORE goes on succeeding, and everything ends once it is back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fetalmlops.platform.embedded.programs import SERVICES
from fetalmlops.platform.provisioning import broker_answers
from support.dcmtk import Store, Storescu
from support.deployment import deployed, table
from support.instances import write_instances

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

AWAY_S = 60
A_SECOND = 6
SLOWEST_S = 2.0


def test_the_broker_is_away_for_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uids = write_instances(tmp_path, AWAY_S * A_SECOND)
    files = list(uids)
    stores: list[Store] = []
    with deployed() as deployment:
        before = {name: deployment.pid(name) for name in SERVICES}
        deployment.take_away("broker")
        begun = time.monotonic()
        for second in range(AWAY_S):
            sender = Storescu(files[second * A_SECOND : (second + 1) * A_SECOND], deployment.settings)
            assert sender.finish(60) == 0
            stores += sender.stores
            time.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        assert not broker_answers(deployment.settings.kafka)
        away_s = time.monotonic() - begun
        deployment.bring_back("broker")
        back = time.monotonic()
        acknowledged = {deployment.instance(uids[store.path]) for store in stores if store.succeeded}
        account = deployment.wait_for(acknowledged, 180)
        ended_s = time.monotonic() - back
        restarted = [name for name in SERVICES if deployment.pid(name) != before[name]]
    slowest = max(store.seconds for store in stores)
    with capsys.disabled():
        heads = (
            "broker away",
            "sent",
            "acknowledged",
            "results",
            "quarantined",
            "lost",
            "doubled",
            "slowest C-STORE s",
        )
        ends = len(account.results), len(account.quarantined), len(account.lost(acknowledged)), account.doubled
        print(f"\n{table(heads, (f'{away_s:.0f} s', len(files), len(acknowledged), *ends, slowest))}")
        print(f"the last result {ended_s:.0f} s after the broker's return; restarted services: {restarted or 'none'}")
    assert len(acknowledged) == len(stores) == len(files)
    assert slowest < SLOWEST_S
    assert acknowledged == account.results
    assert account.doubled == 0


def test_results_that_are_expected_are_waited_for_while_the_broker_is_away(tmp_path: Path) -> None:
    files = list(write_instances(tmp_path, 3))
    command = [Path(sys.executable).with_name("fetalmlops"), "results", "--json", "--expect", str(len(files))]
    with deployed() as deployment:
        environment = {**os.environ, "FETALMLOPS_HOME": str(deployment.home)}
        deployment.take_away("broker")
        assert Storescu(files, deployment.settings).finish(60) == 0
        late = subprocess.run(
            [*command, "--timeout", "2"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert late.returncode == 1
        assert "The broker does not answer; waiting for it" in late.stderr
        assert late.stderr.count("Expected the broker to answer") == 1

        waiting = subprocess.Popen(
            [*command, "--timeout", "300"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert waiting.stderr
        assert "waiting" in waiting.stderr.readline()
        deployment.bring_back("broker")
        output, errors = waiting.communicate(timeout=300)
        assert waiting.returncode == 0, errors
        assert len(output.splitlines()) == len(files)
