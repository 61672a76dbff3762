"""A full disk: C-STORE says so, nothing half-written counts, and all goes on once there is room."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalmlops.domain.simulation import StudySpec, make_study
from fetalmlops.platform.dicom.storescu import Peer, send_files
from support.deployment import Deployment, deployed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MIB = 1 << 20
DISK_MIB = 48
RESERVE_MIB = 8
OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, too small for what is sent."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", place], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def statuses(deployment: Deployment, files: list[Path]) -> dict[Path, int | None]:
    listener = deployment.settings.listener
    peer = Peer(host="127.0.0.1", port=listener.port, called=listener.ae_title)
    return {outcome.path: outcome.status for outcome in send_files(files, peer, associations=1)}


@pytest.mark.parametrize("reserve_mib", [RESERVE_MIB, 0])
def test_a_full_disk_refuses_and_recovers(
    reserve_mib: int, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a reserve the listener refuses before the disk is full; without one, writing fails in the middle."""
    uids = {}
    for instance in make_study(StudySpec(seed=7, instances=2 * DISK_MIB)):
        path = tmp_path / f"{instance.spec.number:04d}.dcm"
        path.write_bytes(instance.data)
        uids[path] = instance.spec.sop_instance_uid
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((DISK_MIB // 2) * MIB))
    toml = f'[objects]\nphi_url = "file://{small_disk}/phi"\n[listener]\nreserve_bytes = {reserve_mib * MIB}\n'
    with deployed(toml) as deployment:
        pids = {name: state.pid for name, state in deployment.system.supervisor.states().items()}
        first = statuses(deployment, list(uids))
        stored = {path for path, status in first.items() if status == 0}
        refused = set(uids) - stored
        answers = Counter("lost" if status is None else f"0x{status:04X}" for status in first.values())
        assert stored
        # A sender treats a lost association as it treats a refusal: it sends again.
        assert set(answers) - {"lost"} == {"0x0000", f"0x{OUT_OF_RESOURCES:04X}"}, answers
        kept = {deployment.instance(uids[path]) for path in stored}
        assert not deployment.wait_for(kept, 120).lost(kept)
        assert len(list((small_disk / "phi" / "instances").rglob("*.dcm"))) == len(stored)
        assert [path for path in (small_disk / "phi" / ".incoming").iterdir() if path.stat().st_size] == []

        ballast.unlink()
        subprocess.run(["mount", "-o", f"remount,size={4 * DISK_MIB}m", small_disk], check=True)
        again = statuses(deployment, sorted(refused))
        everything = {deployment.instance(uid) for uid in uids.values()}
        account = deployment.wait_for(everything, 120)
        after = {name: state.pid for name, state in deployment.system.supervisor.states().items()}
    with capsys.disabled():
        print(
            f"\nreserve {reserve_mib} MiB: {dict(answers)}, "
            f"then stored {sum(status == 0 for status in again.values())}, results {len(account.results)}"
        )
    assert set(again.values()) == {0}
    assert everything <= account.results
    assert account.doubled == 0
    assert after == pids
