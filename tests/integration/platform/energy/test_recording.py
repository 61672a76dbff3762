"""The ledger in a real Valkey: nothing lost while that is away, nothing counted twice, one who counts the idle machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.energy.attribution import Share
from fetalmlops.domain.energy.entries import Entry
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest
from fetalmlops.platform.energy.ledger import EnergyLedger
from fetalmlops.platform.energy.metrics import JOULES
from fetalmlops.platform.energy.recording import EnergyRecorder, process_meter
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.keyvalue import open_valkey_blocking
from fetalmlops.platform.settings import EnergySettings, Settings
from support.powercap import PowercapTree
from support.valkey import OwnValkey

OFTEN_S = 0.1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnValkey]:
    own = OwnValkey(tmp_path_factory.mktemp("valkey"))
    yield own
    own.stop()


@pytest.fixture
def valkey(server: OwnValkey) -> Iterator[OwnValkey]:
    yield server
    open_valkey_blocking(Settings(valkey=server.valkey)).flushdb()


@pytest.fixture
def settings(valkey: OwnValkey, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        valkey=valkey.valkey,
        energy=EnergySettings(record_interval_s=OFTEN_S, powercap=tmp_path / "powercap"),
    )


def entries(settings: Settings) -> list[Entry]:
    with open_valkey_blocking(settings) as valkey:
        today = datetime.now(UTC).date()
        return [entry for _, entry in EnergyLedger(valkey).read(today - timedelta(days=1), today)]


def total(found: list[Entry], process: str) -> float:
    return sum(entry.joules for entry in found if entry.process == process and entry.share is Share.WORK)


def counted() -> float:
    """The work that this process's metric has counted."""
    return sum(
        sample.value
        for family in JOULES.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["share"] == "work"
    )


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def burn() -> None:
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass


def test_what_valkey_does_not_take_is_written_when_it_is_back_and_once(settings: Settings, valkey: OwnValkey) -> None:
    before = counted()
    with EnergyRecorder("tester", settings):
        burn()
        until(lambda: total(entries(settings), "tester") > 0)
        valkey.stop()
        meanwhile = counted()
        burn()
        until(lambda: counted() > meanwhile)
        valkey.start()
        until(lambda: total(entries(settings), "tester") > meanwhile - before)
        process_meter().count(images=2, frames=7)
    found = entries(settings)
    assert total(found, "tester") == pytest.approx(counted() - before)
    assert (sum(entry.images for entry in found), sum(entry.frames for entry in found)) == (2, 7)


def test_a_stop_is_not_held_up_by_a_valkey_that_is_away(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"valkey": settings.valkey.model_copy(update={"port": 1})})
    recorder = EnergyRecorder("tester", away)
    with recorder:
        burn()
    assert not recorder._thread.is_alive()


def test_two_runs_of_a_process_add_up_and_one_of_them_counts_the_idle_machine(settings: Settings) -> None:
    with EnergyRecorder("tester", settings), EnergyRecorder("tester", settings):
        until(lambda: any(entry.share is Share.IDLE for entry in entries(settings)))
    found = entries(settings)
    assert sum(entry.process == "tester" for entry in found) == 2
    assert [entry.process for entry in found if entry.share is Share.IDLE] == ["machine"]


def test_the_idle_machine_passes_to_another_once_its_counter_is_silent(settings: Settings) -> None:
    with open_valkey_blocking(settings) as valkey:
        ledger = EnergyLedger(valkey)
        assert ledger.claim_idle("machine", "RAPL", "first", 60)
        assert ledger.claim_idle("machine", "RAPL", "first", 60)
        assert not ledger.claim_idle("machine", "RAPL", "second", 60)
        assert ledger.claim_idle("machine", "NVML", "second", 60)
        assert ledger.claim_idle("machine", "RAPL", "first", 0.05)
        until(lambda: ledger.claim_idle("machine", "RAPL", "second", 60))


def test_a_counter_is_measured_and_its_loss_is_modelled(settings: Settings) -> None:
    tree = PowercapTree(settings.energy.powercap)
    with EnergyRecorder("tester", settings):
        until(lambda: {entry.method for entry in entries(settings)} == {"measured"})
        tree.counter().unlink()
        until(lambda: {entry.method for entry in entries(settings)} == {"measured", "modelled"})


SERVICE = """
from fetalmlops.platform.service import run_service

async def main(service):
    service.started()
    end = __import__("time").process_time() + 0.2
    while __import__("time").process_time() < end:
        pass
    print("up", flush=True)
    await service.stopping.wait()

run_service("tester", main)
"""


def start(valkey: OwnValkey, home: Path, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **valkey.environment, "FETALMLOPS_HOME": str(home), "FETALMLOPS_HEALTH__PORT": "0"}
    environment["FETALMLOPS_ENERGY__POWERCAP"] = str(home / "none")
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVICE)],
        env=environment | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_every_process_leaves_its_entry_when_it_stops(settings: Settings, valkey: OwnValkey, tmp_path: Path) -> None:
    with start(valkey, tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    (entry,) = (entry for entry in entries(settings) if entry.process == "tester")
    assert entry.cpu_s >= 0.2
    assert entry.joules == pytest.approx(entry.cpu_s * (3.5 - 0.74))


def test_a_killed_process_loses_at_most_what_it_had_not_written(
    settings: Settings, valkey: OwnValkey, tmp_path: Path
) -> None:
    with start(valkey, tmp_path, FETALMLOPS_ENERGY__RECORD_INTERVAL_S="0.1") as process:
        until(lambda: total(entries(settings), "tester") > 0)
        process.kill()
        process.wait(60)
    assert total(entries(settings), "tester") > 0


def report(valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: str) -> str:
    for name, value in {**valkey.environment, "FETALMLOPS_HOME": str(home), "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["energy", "report", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_report_tells_of_serving_per_process_and_image(
    settings: Settings, valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EnergyRecorder("inference", settings):
        burn()
        process_meter().count(images=10, frames=10)
        until(lambda: any(entry.share is Share.IDLE for entry in entries(settings)))
    found = json.loads(report(valkey, monkeypatch, settings.home, "--json"))
    assert found["totals"]["serving"] == pytest.approx(total(entries(settings), "inference"))
    assert found["per_image"]["inference"] == pytest.approx(found["totals"]["serving"] / 10)
    assert found["per_image"]["with_idle"] > found["per_image"]["work"]
    lines = {(line["part"], line["name"]): line for line in found["lines"]}
    assert lines["idle", "machine"]["method"] == "modelled"
    version = decode_manifest(bundled_files()[MANIFEST_NAME]).version
    assert not lines["training", f"demonstration {version}"]["counted"]
    text = report(valkey, monkeypatch, settings.home)
    assert all(word in text for word in ("330.718 g CO2e a kWh, Italy", "embodied carbon", "An image of 10"))
    old = json.loads(report(valkey, monkeypatch, settings.home, "--until", "2026-01-01", "--json"))
    assert old["totals"]["serving"] is None


def test_a_report_without_valkey_says_what_is_not_known(
    settings: Settings, valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "valkey", settings.valkey.model_copy(update={"port": 1}))
    found = json.loads(report(valkey, monkeypatch, settings.home, "--json"))
    assert found["per_image"] is None
    assert found["notes"][0].startswith("Serving and idle are not known: Expected an answer of Valkey")
    assert "not recorded" in report(valkey, monkeypatch, settings.home)
