"""The command against a running system, as a person uses it: what it shows, what it says of mistakes, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalmlops.domain.contracts.events import AuditRecorded
from fetalmlops.domain.contracts.topics import AUDIT_RECORDED
from fetalmlops.domain.simulation import InstanceSpec, Kind, StudySpec, make_instance, make_study
from fetalmlops.platform.bus import read_events
from support.deployment import Deployment, deployed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMMAND = Path(sys.executable).with_name("fetalmlops")
IMAGES = 3


class Command:
    """Runs the command in a state folder."""

    def __init__(self, home: Path) -> None:
        self._environment = {**os.environ, "FETALMLOPS_HOME": str(home), "COLUMNS": "160"}

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        """Return what is printed to both outputs, the standard one first."""
        done = subprocess.run(
            [COMMAND, *arguments], env=self._environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deployed() as running:
        yield running


@pytest.fixture(scope="module")
def fetalmlops(deployment: Deployment) -> Command:
    return Command(deployment.home)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study, a secondary capture without regions, and a file that is none."""
    place = tmp_path_factory.mktemp("sent")
    for instance in make_study(StudySpec(seed=11, instances=IMAGES, report=True)):
        (place / f"{instance.spec.number}.dcm").write_bytes(instance.data)
    capture = make_instance(InstanceSpec(study=12, kind=Kind.SECONDARY_CAPTURE, regions=False))
    (place / "deeper").mkdir()
    (place / "deeper" / "capture").write_bytes(capture.data)
    return place


def entries(fetalmlops: Command) -> list[dict[str, object]]:
    return json.loads(fetalmlops("quarantine", "list", "--json"))  # type: ignore[no-any-return]


def test_a_study_is_sent_seen_and_traced(fetalmlops: Command, folder: Path) -> None:
    sent = fetalmlops("send", folder)
    assert "success" in sent
    assert "instances/s" in sent

    lines = fetalmlops("results", "--expect", str(IMAGES + 1), "--json").splitlines()
    results = [json.loads(line) for line in lines]
    assert sorted(result["decision"] for result in results).count("not_applicable") == 1
    assert "demonstration model" in fetalmlops("results")
    assert fetalmlops("results", "--study", "0" * 31).startswith("0 current results")

    instance = next(result["context"]["instance"] for result in results if result.get("plane"))
    steps = json.loads(fetalmlops("trace", instance, "--json"))
    assert [step["topic"] for step in steps] == [
        "dicom.instance.received.v1",
        "dicom.instance.deidentified.v1",
        "imaging.frames.normalized.v1",
        "results.instance.classified.v1",
    ]
    assert len({step["trace_id"] for step in steps}) == 1
    assert "results.instance.classified.v1" in fetalmlops("trace", instance[:10])


def test_quarantine_is_listed_shown_replayed_and_dropped(fetalmlops: Command, folder: Path) -> None:
    fetalmlops("send", folder / "deeper")
    deadline = time.monotonic() + 60
    while not entries(fetalmlops):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (entry,) = entries(fetalmlops)
    identity = str(entry["entry_id"])
    assert (entry["stage"], entry["kind"]) == ("anonymizer", "permanent")
    assert identity[:8] in fetalmlops("quarantine", "list")
    assert "Expected" in json.loads(fetalmlops("quarantine", "show", identity))["message"]

    # A replay without a repair ends in quarantine again: as an entry of its own, and the old one is closed.
    fetalmlops("quarantine", "replay", identity)
    while [str(item["entry_id"]) for item in entries(fetalmlops)] in ([identity], []):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (again,) = entries(fetalmlops)
    assert again["replay_number"] == 1

    assert "Missing option" in fetalmlops("quarantine", "drop", str(again["entry_id"]), code=2)
    fetalmlops("quarantine", "drop", str(again["entry_id"]), "--reason", "a test")
    assert entries(fetalmlops) == []


def test_a_refused_image_is_looked_at_released_and_classified(
    fetalmlops: Command, deployment: Deployment, tmp_path: Path
) -> None:
    """From the quarantine to exactly one current result; the entry is closed, and the audit tells all of it."""
    spec = InstanceSpec(study=13, regions=False)
    (tmp_path / "image").write_bytes(make_instance(spec).data)
    fetalmlops("send", tmp_path / "image")
    deadline = time.monotonic() + 90
    while not entries(fetalmlops):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (entry,) = entries(fetalmlops)
    identity = str(entry["entry_id"])
    assert "no-regions" in fetalmlops("quarantine", "list", "--count")

    picture, (x0, y0, x1, y1) = tmp_path / "seen.png", spec.scanner.area
    fetalmlops("quarantine", "show", identity, "--thumbnail", picture, "--reason", "to judge it")
    assert picture.read_bytes()[1:4] == b"PNG"
    who = ("--account", "sonographer-7", "--reason", "only the picture")
    fetalmlops("quarantine", "release", identity, "--keep", f"{x0},{y0},{x1},{y1}", *who)
    instance = deployment.instance(spec.sop_instance_uid)
    while instance not in deployment.account().results:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    while entries(fetalmlops):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (result,) = [result for result in deployment.results() if result.context.instance == instance]
    assert result.plane
    assert deployment.account().doubled_of({instance}) == 0
    (step,) = [
        step
        for step in json.loads(fetalmlops("trace", instance, "--json"))
        if step["topic"] == "dicom.instance.deidentified.v1"
    ]
    assert step["trace_id"]
    assert [(event.action, event.outcome, event.actor) for event in audited(deployment, identity)][1:] == [
        ("release-pixels", "granted", "sonographer-7")
    ]
    assert [event.action for event in audited(deployment, identity)] == ["show-thumbnail", "release-pixels"]


def audited(deployment: Deployment, subject: str) -> list[AuditRecorded]:
    async def read() -> list[AuditRecorded]:
        found = read_events(deployment.settings.kafka, AUDIT_RECORDED, AuditRecorded)
        return [event async for _, event in found if event.subject == subject]

    return asyncio.run(read())


def test_sources_are_listed_added_and_tested(fetalmlops: Command) -> None:
    assert "FETALSIM" in fetalmlops("sources", "list")
    fetalmlops("sources", "add", "room-1", "--ae-title", "ROOM1", "--site", "north", "--address", "192.0.2.1")
    table = json.loads(fetalmlops("sources", "list", "--json"))
    assert {"simulator", "room-1"} <= {source["id"] for source in table["sources"]}
    assert "Expected" in fetalmlops("sources", "add", "room-1", "--ae-title", "ROOM1", "--site", "north", code=78)
    assert "Expected a source of the table" in fetalmlops("sources", "test", "nobody", code=78)


def test_a_listed_source_counts_at_once(fetalmlops: Command, folder: Path) -> None:
    assert "rejected" in fetalmlops("send", folder / "1.dcm", "--aet", "ROOM2", code=1).lower()
    fetalmlops("sources", "add", "room-2", "--ae-title", "ROOM2", "--site", "north")
    deadline = time.monotonic() + 15
    while "success" not in fetalmlops("send", folder / "1.dcm", "--aet", "ROOM2"):
        assert time.monotonic() < deadline


def test_the_listener_answers_a_c_echo_of_a_source_that_is_itself(fetalmlops: Command, deployment: Deployment) -> None:
    port = str(deployment.settings.listener.port)
    fetalmlops(
        "sources", "add", "mirror", "--ae-title", "FETALMLOPS", "--site", "here", "--host", "127.0.0.1", "--port", port
    )
    assert "answered in" in fetalmlops("sources", "test", "mirror")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("trace", "ffffffffffff"), 1, "Expected events of an instance"),
        (("quarantine", "show", "nothing"), 1, "Expected nothing to begin one open entry"),
        (("send", "nowhere"), 1, "Expected files and folders that exist"),
        (("results", "--expect", "500", "--timeout", "1"), 1, "Expected 500 current results"),
        (("logs", "nobody"), 1, "Expected processes among"),
    ],
)
def test_mistakes_are_answered(fetalmlops: Command, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in fetalmlops(*arguments, code=code)


def test_without_a_system_each_command_says_so(tmp_path: Path) -> None:
    fetalmlops = Command(tmp_path)
    assert "fetalmlops up" in fetalmlops("status", code=3)
    for arguments in (("results",), ("trace", "ff"), ("quarantine", "list")):
        assert "Expected the broker to answer" in fetalmlops(*arguments, code=1)
