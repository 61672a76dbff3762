"""Trust in a scanner while two workers earn it together, are killed in the middle, and lose the server that keeps it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fetalmlops.anonymizer.texts import rules_digest
from fetalmlops.domain.contracts.events import InstanceDeidentified
from fetalmlops.domain.contracts.topics import INSTANCE_DEIDENTIFIED
from fetalmlops.domain.deid import STREAM
from fetalmlops.domain.deid.pixels.trust import TrustState
from fetalmlops.domain.simulation import BurnIn
from fetalmlops.platform.bus import read_events
from fetalmlops.platform.deid.keys import load_pseudonym_key
from fetalmlops.platform.deid.trust import ValkeyTrust
from fetalmlops.platform.keyvalue import open_valkey
from support.deployment import Deployment, deployed, send_with_dcmtk, wait_until
from support.instances import SCREEN, write_instances

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

INSTANCES = 12
ALWAYS = "[anonymizer]\ntrust_clean_images = 1000\n[stream]\ndeadline_s = 300\n"
SOURCES = '[[source]]\nid = "simulator"\nae_title = "FETALSIM"\nsite = "simulated"\npixels = "validate"\n'


async def _deidentified(deployment: Deployment) -> dict[str, InstanceDeidentified]:
    events = read_events(deployment.settings.kafka, INSTANCE_DEIDENTIFIED, InstanceDeidentified)
    return {event.content_id: event async for _, event in events}


async def _state(deployment: Deployment, scanner: str) -> TrustState:
    client = open_valkey(deployment.settings)
    try:
        rules = rules_digest(STREAM.digest, "")
        return await ValkeyTrust(client, load_pseudonym_key(deployment.settings), rules).state(scanner)
    finally:
        await client.aclose()


def checked(deployment: Deployment) -> dict[str, InstanceDeidentified]:
    """Return the events of instances whose text was looked for, by content id."""
    events = asyncio.run(_deidentified(deployment))
    return {content: event for content, event in events.items() if event.deidentification.text_passes}


def state(deployment: Deployment) -> TrustState:
    """Return what the one scanner has earned."""
    (scanner,) = {event.context.scanner for event in checked(deployment).values()}
    return asyncio.run(_state(deployment, scanner))


@contextmanager
def second_worker(deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    """Run another anonymizer beside the supervised one."""
    environment = {**os.environ, "FETALMLOPS_HOME": str(deployment.home), "FETALMLOPS_HEALTH__PORT": "0"}
    command = [sys.executable, "-m", "fetalmlops.anonymizer"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def test_killed_workers_count_each_image_once_and_wait_for_valkey(tmp_path: Path) -> None:
    clean = write_instances(tmp_path / "clean", INSTANCES, spec=SCREEN)
    named = write_instances(tmp_path / "named", 1, first=900, spec=replace(SCREEN, burn_in=BurnIn.INSIDE))
    later = write_instances(tmp_path / "later", 2, first=950, spec=SCREEN)
    with deployed(ALWAYS, sources=SOURCES) as deployment, second_worker(deployment) as other:
        wait = {deployment.instance(uid) for uid in clean.values()}
        assert send_with_dcmtk(list(clean), deployment.settings) == set(clean)
        # Each is killed with a window of images between check and record.
        wait_until(lambda: len(checked(deployment)) >= 3, 120)
        deployment.kill("anonymizer")
        wait_until(lambda: len(checked(deployment)) >= INSTANCES // 2, 120)
        other.send_signal(signal.SIGKILL)
        account = deployment.wait_for(wait, 240)
        assert account.results == wait
        assert account.doubled == 0
        assert len(checked(deployment)) == INSTANCES
        assert state(deployment) == TrustState(clean=INSTANCES)

        send_with_dcmtk(list(named), deployment.settings)
        (name,) = (deployment.instance(uid) for uid in named.values())
        assert deployment.wait_for({name}, 120).quarantined == {name}
        assert [item.entry.reason for item in deployment.open_entries()] == ["text-found"]
        assert state(deployment) == TrustState(clean=0, findings=1)

        deployment.take_away("valkey")
        assert send_with_dcmtk(list(later), deployment.settings) == set(later)
        wait_until(lambda: "valkey" in deployment.readiness("anonymizer").waiting, 120)
        assert len(checked(deployment)) == INSTANCES
        deployment.bring_back("valkey")
        rest = {deployment.instance(uid) for uid in later.values()}
        assert deployment.wait_for(rest, 240).results == wait | rest
        assert state(deployment) == TrustState(clean=2, findings=1)
