"""The inference process: follows the promotions and serves the champion, and a shadow beside it where settings ask for one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import cv2

from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.imaging.pipelines import find_pipeline
from fetalmlops.inference.hosting import ModelHost
from fetalmlops.inference.promotions import MODEL, Promotions, follow_promotions
from fetalmlops.inference.server import InferenceServer
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.memory import give_back_early
from fetalmlops.platform.objects import open_objects

if TYPE_CHECKING:
    from fetalmlops.platform.inference.channels import Place
    from fetalmlops.platform.service import Service

__all__ = ["serve"]

_GRACE_S: Final = 10.0


async def serve(service: Service, place: Place) -> None:
    """Serve until the process is asked to stop, then finish the calls in work."""
    give_back_early()
    settings = service.settings
    # Frames are small: OpenCV's own threads would only take cores from the engine.
    cv2.setNumThreads(1)
    host = ModelHost(settings.inference)
    server = InferenceServer(host, settings.inference, place)
    service.health.waiting_for(MODEL)
    service.started()
    await server.start()
    service.health.note("port", server.port)
    publisher = Publisher(settings.kafka, service.health)
    produced = {find_pipeline(name).digest for name in settings.normalizer.pipelines}
    roles = (Role.CHAMPION, Role.SHADOW) if settings.inference.shadow else (Role.CHAMPION,)
    promotions = Promotions(host, server, open_objects(settings, Zone.CLEAN), service.health, produced, roles)
    following = asyncio.create_task(follow_promotions(promotions, service, publisher))
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
