"""Metrics by OTLP: what a real receiver is sent is what ``/metrics`` shows."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.otlp import OtlpReceiver, Point

SERVICE = """
import asyncio
from prometheus_client import Counter, Gauge, Histogram
from fetalmlops.platform.service import run_service

async def main(service):
    frames = Counter("test_frames", "Frames", ["outcome"])
    frames.labels("answered").inc(3)
    frames.labels("dropped").inc(1)
    Gauge("test_waiting", "Waiting").set(-2)
    seconds = Histogram("test_seconds", "Time", ["role"], buckets=(0.1, 1))
    for value in (0.05, 0.5, 0.5, 7):
        seconds.labels("champion").observe(value)
    seconds.labels("shadow").observe(0.05)
    service.started()
    if {stay}:
        await asyncio.sleep(600)

run_service("tester", main)
"""


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


def start(endpoint: str, home: Path, *, stay: bool = False, **more: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "FETALMLOPS_HOME": str(home),
        "FETALMLOPS_HEALTH__PORT": "0",
        "FETALMLOPS_VALKEY__PORT": "1",
        "FETALMLOPS_ENERGY__POWERCAP": str(home / "none"),
        "FETALMLOPS_TELEMETRY__OTLP_ENDPOINT": endpoint,
        **more,
    }
    code = SERVICE.replace("{stay}", str(stay))
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)


def named(points: list[Point], name: str) -> list[Point]:
    return sorted((point for point in points if point.name == name), key=lambda point: sorted(point.attributes.items()))


def test_all_metrics_are_sent_once_more_at_the_end(receiver: OtlpReceiver, tmp_path: Path) -> None:
    assert start(receiver.endpoint, tmp_path).wait(60) == 0
    points = receiver.points("tester")
    assert [(point.kind, point.attributes, point.value) for point in named(points, "test_frames")] == [
        ("sum", {"outcome": "answered"}, 3),
        ("sum", {"outcome": "dropped"}, 1),
    ]
    assert [(point.kind, point.value) for point in named(points, "test_waiting")] == [("gauge", -2)]
    champion, shadow = named(points, "test_seconds")
    assert (champion.unit, champion.value) == ("s", pytest.approx(8.05))
    assert champion.buckets == ((0.1, 1), (1.0, 2), (math.inf, 1))
    assert shadow.buckets == ((0.1, 1), (1.0, 0), (math.inf, 0))
    (work,) = named(points, "fetalmlops_energy_joules")
    assert (work.unit, work.attributes) == ("J", {"share": "work", "method": "modelled"})
    assert named(points, "process_cpu_seconds")[0].value > 0
    assert not any(point.name.endswith("_created") for point in points)


def test_metrics_are_sent_while_a_process_runs(receiver: OtlpReceiver, tmp_path: Path) -> None:
    with start(receiver.endpoint, tmp_path, stay=True, FETALMLOPS_TELEMETRY__METRICS_INTERVAL_S="0.2") as process:
        end = time.monotonic() + 60
        while not named(receiver.points("tester"), "test_frames"):
            assert time.monotonic() < end
            time.sleep(0.05)
        process.kill()


def test_a_receiver_that_is_away_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    assert start("http://127.0.0.1:1", tmp_path).wait(60) == 0
