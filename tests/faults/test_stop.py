"""SIGTERM: the listener finishes what is being sent, and refuses what would begin."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fetalmlops.domain.simulation import StudySpec, make_study
from support.deployment import deployed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

INSTANCES = 300
SENT_BEFORE = 5


def answers(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(2)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def test_an_open_association_finishes_and_a_new_one_is_refused(tmp_path: Path) -> None:
    uids = {}
    for instance in make_study(StudySpec(seed=5, instances=INSTANCES)):
        path = tmp_path / f"{instance.spec.number:03d}.dcm"
        path.write_bytes(instance.data)
        uids[path] = instance.spec.sop_instance_uid
    with deployed() as deployment:
        listener, pid = deployment.settings.listener, deployment.pid("listener")
        command = ("storescu", "-v", "-aet", "FETALSIM", "-aec", listener.ae_title, "127.0.0.1", str(listener.port))
        sender = subprocess.Popen([*command, *uids], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert sender.stdout
        successes, stopped = 0, threading.Event()
        refused = False
        for line in sender.stdout:
            successes += "Received Store Response (Success)" in line
            if successes >= SENT_BEFORE and not stopped.is_set():
                os.kill(pid, signal.SIGTERM)
                stopped.set()
            if stopped.is_set() and not refused and deployment.pid("listener") in {0, pid}:
                refused = not answers(listener.port)
        assert sender.wait(60) == 0
        assert successes == INSTANCES
        assert refused

        # The supervisor starts it again, and what it took is all there.
        end = time.monotonic() + 30
        while not answers(listener.port):
            assert time.monotonic() < end
            time.sleep(0.2)
        everything = {deployment.instance(uid) for uid in uids.values()}
        assert everything <= deployment.wait_for(everything, 60).results
