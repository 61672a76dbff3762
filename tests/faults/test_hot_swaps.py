"""Models are swapped under load: no call fails, every answer is that of the model it names, and memory does not grow."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from fetalmlops.cli.main import app
from fetalmlops.domain.contracts.events import AlarmRaised
from fetalmlops.domain.contracts.topics import ALARM_RAISED
from fetalmlops.domain.models.bundle import Bundle, Reference, load_bundle
from fetalmlops.domain.models.classify import classify
from fetalmlops.domain.models.manifest import Calibration
from fetalmlops.domain.models.prepare import prepare
from fetalmlops.platform.bus import read_events
from fetalmlops.platform.engines.openvino import OpenVinoEngine
from fetalmlops.platform.inference.bundles import bundled_files, save_bundle
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.settings import Settings
from support.deployment import table
from support.promotions import announced, promoted, resealed, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SWAPS = 10
CALLERS = 4
KEPT_BYTES = 4 << 20
"""An engine of the bundle takes more than this: one that a swap leaves behind shows."""


def warmer(bundle: Bundle, temperature: float, version: str) -> Bundle:
    """A bundle of another temperature: whole, and with other probabilities for every image."""
    calibration = Calibration(temperature=temperature, brain_temperature=temperature)
    reference = bundle.reference
    made = msgspec.structs.replace(bundle.manifest, calibration=calibration)
    output = OpenVinoEngine(bundle).infer(prepare(reference.frames, made.input).batch)
    planes, brains = (
        np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)
        for logits in (output.logits.astype(float), output.brain_logits.astype(float))
    )
    other = Reference(reference.frames, planes.astype(np.float32), brains.astype(np.float32))
    files = {bundle.manifest.reference: other.to_bytes()}
    return resealed(bundle, files, calibration=calibration, version=version)


def expected(bundle: Bundle, frame: np.ndarray) -> list[float]:
    """Probabilities that a bundle gives a frame, worked out here."""
    prepared = prepare(frame[None], bundle.manifest.input)
    output = OpenVinoEngine(bundle).infer(prepared.batch)
    return [*classify(bundle, output, prepared.contrast, prepared.sharpness, prepared.faults).probabilities]


@dataclass
class Load:
    """Calls of the inference service, one after the other by each of several callers, until it is told to stop."""

    target: str
    frames: np.ndarray
    truth: Mapping[str, list[list[float]]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[BaseException] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    async def run(self) -> None:
        async with InferenceClient(self.target, timeout_s=30) as client, asyncio.TaskGroup() as tasks:
            for caller in range(CALLERS):
                tasks.create_task(self._call(client, caller))

    async def _call(self, client: InferenceClient, caller: int) -> None:
        place = caller
        while not self.stopping.is_set():
            place = (place + 1) % len(self.frames)
            began = time.perf_counter()
            try:
                found = await client.classify([self.frames[place : place + 1]], [1])
            except Exception as error:
                self.failures.append(error)
                await asyncio.sleep(0.1)
                continue
            self.seconds.append(time.perf_counter() - began)
            digest = found.model.bundle_digest
            self.answers[digest] += 1
            if not np.allclose([*found.probabilities.values()], self.truth[digest][place], atol=1e-3):
                self.wrong.append(digest)


def test_ten_swaps_and_a_rollback_under_load(
    embedded: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_swap_under_load(embedded, monkeypatch, capsys))


async def _swap_under_load(
    embedded: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = load_bundle(bundled_files())
    models = [warmer(base, 0.5 + 0.25 * number, f"8.0.{number}") for number in range(SWAPS + 1)]
    damaged = resealed(base, version="8.9.9")
    frames = base.reference.frames
    truth = {model.digest: [expected(model, frame) for frame in frames] for model in models}
    apart = [np.abs(np.subtract(one, other)).max() for one, other in itertools.pairwise(truth.values())]
    assert min(apart) > 0.01, "two models that answer alike would prove nothing"
    for model in models:
        save_bundle(embedded.home, model.files)
    await promoted(embedded, models[0].files)
    memory: list[int] = []
    with running(embedded) as process:
        await asyncio.to_thread(process.wait_until, lambda report: report.get("bundle_digest") == models[0].digest)
        monkeypatch.setenv("FETALMLOPS_INFERENCE__PORT", str(process.port))
        load = Load(process.target, frames, truth)
        calling = asyncio.create_task(load.run())
        try:
            for model in models[1:]:
                await command(embedded, "promote", f"demonstration-{model.manifest.version}")
                await until_answered_by(load, model.digest)
                memory.append(psutil.Process(process.popen.pid).memory_info().rss)
            await command(embedded, "rollback")
            await until_answered_by(load, models[-2].digest)
            await announced(embedded, damaged.files, {"model.onnx": damaged.files["model.onnx"][:-1] + b"\0"})
            report = await asyncio.to_thread(process.wait_until, lambda report: bool(report["bundle_refused"]))
            assert (report["ready"], report["bundle_digest"]) == (True, models[-2].digest)
            await until_answered_by(load, models[-2].digest)
        finally:
            load.stopping.set()
            await calling
    growth = (memory[-1] - memory[2]) / (len(memory) - 3)
    with capsys.disabled():
        slowest, median = max(load.seconds), statistics.median(load.seconds)
        print(f"\n{SWAPS} swaps, a rollback and a damaged promotion under {CALLERS} callers")
        heads = ("calls", "failed", "wrong", "models", "median ms", "slowest ms", "MiB a swap")
        figures = (len(load.seconds), len(load.failures), len(load.wrong), len(load.answers))
        print(table(heads, (*figures, 1000 * median, 1000 * slowest, growth / 2**20)))
    assert load.failures == []
    assert load.wrong == []
    assert set(load.answers) == {model.digest for model in models}
    assert growth < KEPT_BYTES
    alarms = [alarm async for _, alarm in read_events(embedded.kafka, ALARM_RAISED, AlarmRaised)]
    assert any("8.9.9" in alarm.what and "rollback" in alarm.remedy for alarm in alarms)


async def command(settings: Settings, *words: str) -> None:
    """Run a command as a person would; it waits until the service serves what it is to."""
    person = ("--account", "a.person", "--reason", "for the test")
    arguments = ["--home", str(settings.home), *words, *person]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert done.exit_code == 0, done.output
    assert "The inference service serves it" in " ".join(done.output.split())


async def until_answered_by(load: Load, digest: str) -> None:
    """Wait until a model has answered several more calls of each caller."""
    wanted = load.answers[digest] + 5 * CALLERS
    async with asyncio.timeout(60):
        while load.answers[digest] < wanted:
            assert load.failures == []
            await asyncio.sleep(0.02)
