"""The process itself: it follows the promotions on a real broker, serves the champion, and ends when asked to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fetalmlops.domain.contracts.envelope import Envelope
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.inference.promotion import promote
from fetalmlops.platform.objects import open_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from fetalmlops.domain.models.bundle import Bundle
    from fetalmlops.platform.settings import Settings


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """A running inference process."""

    def __init__(self, settings: Settings) -> None:
        self.port, self.health_port = free_port(), free_port()
        environment = {
            **os.environ,
            "FETALMLOPS_HOME": str(settings.home),
            "FETALMLOPS_INFERENCE__PORT": str(self.port),
            "FETALMLOPS_HEALTH__PORT": str(self.health_port),
        }
        self.popen = subprocess.Popen([sys.executable, "-m", "fetalmlops.inference"], env=environment)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def report(self) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.health_port}/readyz"
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))
        except OSError:
            return {}

    def wait_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + 90
        while not condition(report := self.report()):
            assert time.monotonic() < end, report
            assert self.popen.poll() is None
            time.sleep(0.05)
        return report


@contextmanager
def running(settings: Settings) -> Iterator[Process]:
    process = Process(settings)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.wait(10)


async def promoted(settings: Settings, files: dict[str, bytes], role: Role = Role.CHAMPION) -> None:
    publisher = Publisher(settings.kafka, Health("test"))
    await publisher.start()
    await promote(files, role=role, actor="tester", reason="test", objects=open_objects(settings), publisher=publisher)
    await publisher.stop()


async def test_promotion_swap_refusal_and_end(
    embedded: Settings, bundle: Bundle, other_bundle: Bundle, frames: np.ndarray
) -> None:
    await promoted(embedded, dict(bundle.files))
    with running(embedded) as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        assert report["bundle_digest"] == bundle.digest
        assert report["port"] == process.port
        async with InferenceClient(process.target) as client:
            assert (await client.classify([frames[:1]], [1])).model.bundle_digest == bundle.digest

            await promoted(embedded, dict(other_bundle.files), Role.SHADOW)
            await promoted(embedded, dict(other_bundle.files))
            await asyncio.to_thread(
                process.wait_until, lambda report: report.get("bundle_digest") == other_bundle.digest
            )
            assert (await client.classify([frames[:1]], [1])).model.bundle_digest == other_bundle.digest

            damaged = embedded.home / "objects" / "clean" / "bundles" / bundle.digest / "model.onnx"
            damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
            await promoted(embedded, dict(bundle.files))
            await asyncio.sleep(1.5)
            assert process.report()["bundle_digest"] == other_bundle.digest
            damaged.write_bytes(bundle.files["model.onnx"])

            process.popen.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.popen.wait, 40) == 0
            with pytest.raises(TransientError) as caught:
                await client.classify([frames[:1]], [1])
            assert caught.value.everyone


async def test_calls_in_work_finish_after_sigterm(embedded: Settings, bundle: Bundle, frames: np.ndarray) -> None:
    await promoted(embedded, dict(bundle.files))
    with running(embedded) as process:
        await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
        async with InferenceClient(process.target) as client:
            cine = frames[[0] * 64]
            calls = [asyncio.create_task(client.classify([cine], [*range(1, 65)], timeout=60)) for _ in range(4)]
            await asyncio.sleep(0.15)
            process.popen.send_signal(signal.SIGTERM)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert await asyncio.to_thread(process.popen.wait, 40) == 0
    # A call that the service had not yet taken may be told that it is away; none may hang or fail otherwise.
    failed = [result for result in results if isinstance(result, BaseException)]
    assert [error for error in failed if not (isinstance(error, TransientError) and error.everyone)] == []
    assert len(failed) < len(results)


async def test_a_shadow_does_not_hide_the_champion_at_a_start(
    embedded: Settings, bundle: Bundle, other_bundle: Bundle
) -> None:
    await promoted(embedded, dict(bundle.files))
    await promoted(embedded, dict(other_bundle.files), Role.SHADOW)
    await promoted(embedded, dict(bundle.files), Role.SHADOW)
    with running(embedded) as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
    assert report["bundle_digest"] == bundle.digest


async def test_a_bad_promotion_does_not_hide_the_one_before_it_at_a_start(embedded: Settings, bundle: Bundle) -> None:
    await promoted(embedded, dict(bundle.files))
    publisher = Publisher(embedded.kafka, Health("test"))
    identity = "96c5a516-bafe-8a00-8879-fda4b0e55166"
    headers = Envelope(id=identity, type=MODEL_PROMOTED.name, source="test", time_ms=0).to_headers()
    key = bundle.manifest.name.encode()
    await publisher.publish_raw(MODEL_PROMOTED.name, key, b"{", headers)
    await publisher.publish_raw(MODEL_PROMOTED.name, key, None, headers)
    await publisher.stop()
    with running(embedded) as process:
        report = await asyncio.to_thread(process.wait_until, lambda report: report.get("ready", False))
    assert report["bundle_digest"] == bundle.digest
