"""The sweep brings back what topics have lost, and does not multiply what only waits."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalmlops.domain.contracts.topics import INSTANCE_DEIDENTIFIED, INSTANCE_RECEIVED, Topic
from support.deployment import Deployment, deployed, send_with_dcmtk, table, wait_until
from support.instances import write_instances

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

HEADS = ("fault", "sent", "acknowledged", "announced", "results", "quarantined", "lost", "doubled")
FIRST_S = 2.0
SETTINGS = f"[listener]\nsweep_interval_s = 1.0\nsweep_first_s = {FIRST_S}\nsweep_last_s = 4.0\n"
BACKLOG = 2000
SEVERAL = 5


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed(SETTINGS) as running:
        yield running


@pytest.mark.parametrize(
    ("stage", "topic", "first"),
    [("normalizer", INSTANCE_DEIDENTIFIED, 40_000), ("anonymizer", INSTANCE_RECEIVED, 50_000)],
)
def test_the_records_of_a_stopped_stage_are_deleted(
    stage: str, topic: Topic, first: int, deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = write_instances(tmp_path, 100, first=first)
    announced, waiting = deployment.published(INSTANCE_RECEIVED), deployment.published(topic)
    deployment.system.stop(stage)
    sent = send_with_dcmtk(list(uids), deployment.settings)
    acknowledged = {deployment.instance(uids[path]) for path in sent}
    wait_until(lambda: deployment.published(topic) == waiting + len(uids), 60)
    deployment.delete_records(topic)
    assert deployment.kept(topic) == 0
    assert not acknowledged & deployment.account().results
    deployment.bring_back(stage)
    account = deployment.wait_for(acknowledged, 120)
    announced = deployment.published(INSTANCE_RECEIVED) - announced
    with capsys.disabled():
        ends = (
            len(acknowledged & account.results),
            len(acknowledged & account.quarantined),
            len(account.lost(acknowledged)),
        )
        row = (f"{topic.name} deleted, {stage} stopped", len(uids), len(acknowledged), announced, *ends)
        print(f"\n{table(HEADS, (*row, account.doubled))}")
    assert len(acknowledged) == len(uids)
    assert acknowledged <= account.results
    assert account.doubled == 0


def test_a_backlog_is_not_multiplied(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = write_instances(tmp_path, BACKLOG, first=100_000)
    before = deployment.published(INSTANCE_RECEIVED)
    deployment.system.stop("anonymizer")
    sent = send_with_dcmtk(list(uids), deployment.settings)
    acknowledged = {deployment.instance(uids[path]) for path in sent}
    wait_until(lambda: deployment.published(INSTANCE_RECEIVED) - before >= BACKLOG, 60)
    # Long enough for every instance to be due several times.
    time.sleep(SEVERAL * FIRST_S * 2)
    waited = deployment.published(INSTANCE_RECEIVED) - before
    blocked = deployment.readiness("listener").report.get("sweep_waits_for")
    deployment.bring_back("anonymizer")
    account = deployment.wait_for(acknowledged, 240)
    # And for sweeps after the end.
    time.sleep(SEVERAL * FIRST_S)
    ended = deployment.published(INSTANCE_RECEIVED) - before
    with capsys.disabled():
        ends = len(acknowledged & account.results), len(acknowledged & account.quarantined)
        heads = ("backlog", "acknowledged", "records while it waits", "at the end", "results", "quarantined", "doubled")
        print(f"\n{table(heads, (len(uids), len(acknowledged), waited, ended, *ends, account.doubled))}")
    assert len(acknowledged) == BACKLOG
    assert blocked == "anonymizer"
    assert waited == ended == BACKLOG
    assert acknowledged <= account.results
    assert account.doubled == 0
