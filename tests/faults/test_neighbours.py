"""An instance that always times out and one that kills its decoder leave the others alone, and end as they should."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from fetalmlops.domain.contracts.events import QuarantineKind
from fetalmlops.domain.simulation import InstanceSpec, Kind, StudySpec, make_instance, make_study
from fetalmlops.platform.dicom.storescu import Peer, send_files
from support.deployment import Deployment, deployed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NEIGHBOURS = 1000
PER_SECOND = 15.0
# On a quiet machine the ratio is 1.2 to 2; where two cores have to start the killed decoder anew beside all else, it was 5.
# What this catches is a neighbour that waits for its turn: the ratio is then 10 and above (decision 4).
MOST = 8.0

# A frame of JPEG 2000 takes some 40 ms: 200 of them take longer than the deadline, and not longer than its repair.
# A deflated dataset is inflated in memory: 600 frames of 600x800 need more than the child may have.
SETTINGS = """
[stream]
deadline_s = 3.0
deadline_s_per_mib = 0.05
[normalizer]
child_memory_bytes = 536870912
"""
REPAIRED = SETTINGS.replace("deadline_s = 3.0", "deadline_s = 120.0")
SLOW = InstanceSpec(study=9001, kind=Kind.ULTRASOUND_MULTIFRAME, frames=200, transfer_syntax=JPEG2000Lossless)
KILLER = InstanceSpec(
    study=9002, kind=Kind.ULTRASOUND_MULTIFRAME, frames=600, transfer_syntax=DeflatedExplicitVRLittleEndian
)


def send(deployment: Deployment, files: list[Path]) -> None:
    listener = deployment.settings.listener
    peer = Peer(host="127.0.0.1", port=listener.port, called=listener.ae_title)
    assert all(outcome.stored for outcome in send_files(files, peer, associations=1))


def paced(deployment: Deployment, files: list[Path]) -> None:
    """Send at an even rate, well below what the machine can take."""

    def due() -> Iterator[Path]:
        began = time.monotonic()
        for number, path in enumerate(files):
            time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
            yield path

    for path in due():
        send(deployment, [path])


def written(folder: Path, seed: int, count: int) -> dict[Path, str]:
    uids = {}
    for instance in make_study(StudySpec(seed=seed, instances=count)):
        path = folder / f"{seed}-{instance.spec.number:04d}.dcm"
        path.write_bytes(instance.data)
        uids[path] = instance.spec.sop_instance_uid
    return uids


def latencies(deployment: Deployment, uids: dict[Path, str]) -> list[float]:
    """Return the times from arrival to result, ms, sorted."""
    wanted = {deployment.instance(uid) for uid in uids.values()}
    assert not deployment.wait_for(wanted, 120).lost(wanted)
    found = [r.measured.since_arrival_ms for r in deployment.results() if r.context.instance in wanted]
    assert len(found) == len(wanted)
    return sorted(found)


def percentile(values: list[float], share: float) -> float:
    return values[round(share * (len(values) - 1))]


def test_neighbours_of_a_slow_and_a_deadly_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow, killer = tmp_path / "slow.dcm", tmp_path / "killer.dcm"
    slow.write_bytes(make_instance(SLOW).data)
    killer.write_bytes(make_instance(KILLER).data)
    warm = written(tmp_path, 1, 30)
    # Half of those without them before, half after: what drifts on the machine drifts for both.
    before, beside, after = (
        written(tmp_path, seed, count) for seed, count in ((2, NEIGHBOURS // 2), (3, NEIGHBOURS), (4, NEIGHBOURS // 2))
    )
    with deployed(SETTINGS) as deployment:
        paced(deployment, list(warm))
        latencies(deployment, warm)
        paced(deployment, list(before))
        alone = latencies(deployment, before)
        troublemakers = threading.Thread(target=send, args=(deployment, [slow, killer]))
        troublemakers.start()
        paced(deployment, list(beside))
        troublemakers.join()
        together = latencies(deployment, beside)

        entries = {item.entry.context.instance: item.entry for item in deployment.open_entries() if item.entry.context}
        parked = entries[deployment.instance(SLOW.sop_instance_uid)]
        deadly = entries[deployment.instance(KILLER.sop_instance_uid)]
        assert (parked.kind, parked.reason) == (QuarantineKind.TRANSIENT, "deadline")
        assert (deadly.kind, deadly.attempts) == (QuarantineKind.DEADLY, 3)

        # Repair: time enough. The keeper replays what was parked, and nothing else.
        (deployment.home / "fetalmlops.toml").write_text(REPAIRED)
        deployment.restart("anonymizer")
        slow_instance = deployment.instance(SLOW.sop_instance_uid)
        end = time.monotonic() + 240
        while slow_instance not in {result.context.instance for result in deployment.results()}:
            assert time.monotonic() < end, "the parked instance was not done after its repair"
            time.sleep(1)
        still_open = {item.entry.context.instance for item in deployment.open_entries() if item.entry.context}
        assert still_open == {deployment.instance(KILLER.sop_instance_uid)}

        paced(deployment, list(after))
        alone = sorted([*alone, *latencies(deployment, after)])
    ratio = percentile(together, 0.95) / percentile(alone, 0.95)
    with capsys.disabled():
        print(f"\n{'arrival to result, ms':<24}{'instances':>10}{'median':>9}{'95th percentile':>17}")
        for name, values in (("without them", alone), ("beside them", together)):
            print(f"{name:<24}{len(values):>10}{statistics.median(values):>9.0f}{percentile(values, 0.95):>17.0f}")
        print(f"ratio of the 95th percentiles: {ratio:.2f}")
    assert ratio <= MOST
