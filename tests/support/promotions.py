"""An inference process that follows promotions, whole and damaged ones."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from fetalmlops.domain.contracts.events import ModelPromoted
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME, decode_manifest
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.promotion import announce, promote, store_bundle
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import Settings


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """A running inference process."""

    def __init__(self, settings: Settings, **variables: str) -> None:
        self.port, self.health_port = free_port(), free_port()
        environment = {
            **os.environ,
            "FETALMLOPS_HOME": str(settings.home),
            "FETALMLOPS_INFERENCE__PORT": str(self.port),
            "FETALMLOPS_HEALTH__PORT": str(self.health_port),
            **variables,
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
def running(settings: Settings, **variables: str) -> Iterator[Process]:
    process = Process(settings, **variables)
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


async def announced(
    settings: Settings, files: Mapping[str, bytes], damage: Mapping[str, bytes | None], role: Role = Role.CHAMPION
) -> None:
    """Promote a bundle that is stored with other files than its manifest tells, or without them: no gate would let it pass."""
    objects = open_objects(settings)
    ref = await asyncio.to_thread(store_bundle, objects, files)
    folder = settings.home / "objects" / "clean" / "bundles" / ref.sha256
    for name, data in damage.items():
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)
    manifest = decode_manifest(files[MANIFEST_NAME])
    promotion = ModelPromoted(
        model=manifest.name,
        version=manifest.version,
        role=role,
        bundle_digest=ref.sha256,
        manifest=ref,
        release_status=manifest.release_status,
        actor="tester",
        reason="test",
    )
    publisher = Publisher(settings.kafka, Health("test"))
    await announce(promotion, objects, publisher)
    await publisher.stop()


def resealed(bundle: Bundle, files: Mapping[str, bytes] | None = None, **changes: Any) -> Bundle:
    """Return a bundle that differs in its manifest, and in files if given."""
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME} | dict(files or {})
    return load_bundle(seal_bundle(msgspec.structs.replace(bundle.manifest, **changes), contents))
