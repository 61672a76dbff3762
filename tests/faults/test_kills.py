"""Every process is killed while instances pass: nothing that was acknowledged is lost, and nothing is doubled."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from fetalmlops.domain.simulation import InstanceSpec, StudySpec, make_instance, plan_study
from support.deployment import PROCESSES, deployed, send_with_dcmtk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk is not installed"),
]

INSTANCES = 1001
MID_RUN_S = 1.5


def written(specs: list[InstanceSpec], folder: Path) -> dict[Path, str]:
    """Write instances to files; return each file's SOP Instance UID."""
    uids = {}
    for number, spec in enumerate(specs):
        path = folder / f"{number:04d}.dcm"
        path.write_bytes(make_instance(spec).data)
        uids[path] = spec.sop_instance_uid
    return uids


@pytest.mark.parametrize("studies", [1, 20])
def test_every_process_is_killed_once(studies: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    per_study = -(-INSTANCES // studies)
    specs = [spec for seed in range(studies) for spec in plan_study(StudySpec(seed=seed, instances=per_study))][
        :INSTANCES
    ]
    uids = written(specs, tmp_path)
    files = list(uids)
    share = len(files) // len(PROCESSES)
    rows = []
    with deployed() as deployment:
        for number, process in enumerate(PROCESSES):
            batch = files[number * share : (number + 1) * share]

            def hurt(process: str = process) -> None:
                time.sleep(MID_RUN_S)
                deployment.kill(process)

            acknowledged = send_with_dcmtk(batch, deployment.settings, during=hurt)
            rows.append((process, batch, {deployment.instance(uids[path]) for path in acknowledged}))
        everything = set().union(*(acknowledged for _, _, acknowledged in rows))
        account = deployment.wait_for(everything, 300)
    with capsys.disabled():
        print(f"\n{studies} studies")
        print(f"{'kill -9 of':<12}{'sent':>6}{'acknowledged':>14}{'results':>9}{'quarantined':>13}{'lost':>6}")
        for process, batch, acknowledged in rows:
            got, kept = len(acknowledged & account.results), len(acknowledged & account.quarantined - account.results)
            print(
                f"{process:<12}{len(batch):>6}{len(acknowledged):>14}{got:>9}{kept:>13}{len(account.lost(acknowledged)):>6}"
            )
        print(f"doubled: {account.doubled}")
    assert all(len(acknowledged) == len(batch) for _, batch, acknowledged in rows)
    assert not account.lost(everything)
    assert account.doubled == 0
    assert everything <= account.results
