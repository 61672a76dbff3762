"""What serves is told by role, from a real inference service."""

from __future__ import annotations

import asyncio

import pytest

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.gateway.problems import ProblemError
from fetalmlops.gateway.watching import Watch
from fetalmlops.inference.hosting import ModelHost
from fetalmlops.inference.server import InferenceServer
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.inference.client import InferenceClient
from fetalmlops.platform.settings import InferenceSettings
from support.promotions import resealed


async def _told() -> list[list[tuple[str, str]]]:
    """Return the models told of as role and version: with nothing served, a champion, and a shadow beside it."""
    bundle = load_bundle(bundled_files())
    settings = InferenceSettings(port=0, max_batch=1)
    host = ModelHost(settings)
    server = InferenceServer(host, settings)
    await server.start()
    told = []
    try:
        async with InferenceClient(f"127.0.0.1:{server.port}", timeout_s=5) as client:
            watch = Watch(client, Health("gateway"))
            with pytest.raises(ProblemError, match="got none"):
                await watch.models()
            for role, served in ((Role.CHAMPION, bundle), (Role.SHADOW, resealed(bundle, version="9.9.9"))):
                await host.swap(served, role)
                await server.set_ready(ready=True)
                await watch.refresh()
                told.append([(each.role, each.identity.version) for each in await watch.models()])
    finally:
        await server.stop(1.0)
        await host.close()
    return told


def test_the_shadow_is_told_of_beside_the_champion() -> None:
    version = load_bundle(bundled_files()).manifest.version
    champion = ("champion", version)
    assert asyncio.run(_told()) == [[champion], [champion, ("shadow", "9.9.9")]]
