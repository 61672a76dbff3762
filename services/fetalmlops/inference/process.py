"""The inference process: follows the promotions and serves the champion."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import cv2

from fetalmlops.domain.contracts.events import ModelPromoted
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED, Zone
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.inference.hosting import ModelHost
from fetalmlops.inference.server import InferenceServer
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.inference.promotion import fetch_bundle
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.streams import follow

if TYPE_CHECKING:
    from fetalmlops.platform.health import Health
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.streams import Delivery

__all__ = ["Promotions", "main"]

_MODEL: Final = "a promoted model"
_GRACE_S: Final = 10.0


class Promotions:
    """Lets each promoted champion serve.

    Parameters
    ----------
    host
        Holds the model.
    server
        Tells health checks when one serves.
    objects
        Where bundles lie.
    health
        Health of the process.
    """

    def __init__(self, host: ModelHost, server: InferenceServer, objects: ObjectStore, health: Health) -> None:
        self._host = host
        self._server = server
        self._objects = objects
        self._health = health
        self._since_ms = -1

    async def apply(self, delivery: Delivery[ModelPromoted]) -> bool:
        """Fetch, prove and serve a promoted bundle; promotions to other roles are not ours, which False says.

        Of all champions the one promoted last serves, in whatever order the promotions of several models are read.

        Raises
        ------
        FetalMLOpsError
            If the bundle cannot be fetched or fails the technical gate; what served before goes on serving.
        """
        promotion = delivery.event
        if promotion.role is not Role.CHAMPION:
            return False
        if delivery.envelope.time_ms < self._since_ms:
            return True
        files = await asyncio.to_thread(fetch_bundle, self._objects, promotion.manifest)
        bundle = await asyncio.to_thread(load_bundle, files, promotion.bundle_digest)
        await self._host.swap(bundle)
        self._since_ms = delivery.envelope.time_ms
        self._health.note("bundle", f"{bundle.manifest.name} {bundle.manifest.version}")
        self._health.note("bundle_digest", bundle.digest)
        self._health.note("release_status", bundle.manifest.release_status)
        self._health.served_by(_MODEL)
        await self._server.set_ready(ready=True)
        return True


async def main(service: Service) -> None:
    """Serve until the process is asked to stop, then finish the calls in work."""
    settings = service.settings
    # Frames are small: OpenCV's own threads would only take cores from the engine.
    cv2.setNumThreads(1)
    host = ModelHost(settings.inference)
    server = InferenceServer(host, settings.inference)
    service.health.waiting_for(_MODEL)
    service.started()
    await server.start()
    service.health.note("port", server.port)
    publisher = Publisher(settings.kafka, service.health)
    promotions = Promotions(host, server, open_objects(settings, Zone.CLEAN), service.health)
    following = asyncio.create_task(follow(MODEL_PROMOTED, ModelPromoted, promotions.apply, service, publisher))
    stopping = asyncio.create_task(service.stopping.wait())
    try:
        await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if following.done() and not stopping.done():
            await following
    finally:
        await server.stop(_GRACE_S)
        following.cancel()
        stopping.cancel()
        await asyncio.gather(following, stopping, return_exceptions=True)
        await publisher.stop()
        await host.close()
