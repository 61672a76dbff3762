"""Whom the classifier asks: our inference service, or a server of the Open Inference Protocol."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.events import ModelPromoted
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import MODEL_PROMOTED
from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.inference.client import open_inference
from fetalmlops.platform.inference.promotion import fetch_bundle
from fetalmlops.platform.streams import follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fetalmlops.platform.inference.client import InferenceClient
    from fetalmlops.platform.inference.open_inference import OpenInferenceClient
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.streams import Delivery

__all__ = ["open_asking"]


@asynccontextmanager
async def open_asking(service: Service, objects: ObjectStore) -> AsyncIterator[InferenceClient | OpenInferenceClient]:
    """Open the client that the settings ask for.

    Parameters
    ----------
    service
        The process; it is asked to stop if the promotions can no longer be followed.
    objects
        Store of the clean zone.
    """
    settings = service.settings.inference
    if settings.protocol == "fetalmlops":
        async with open_inference(settings) as client:
            yield client
        return
    from fetalmlops.platform.inference.open_inference import OpenInferenceClient

    target = settings.open_inference_target or f"{settings.host}:{settings.port}"
    publisher = Publisher(service.settings.kafka, service.health)
    async with OpenInferenceClient(target, settings.tls, timeout_s=settings.timeout_s) as asked:
        champion = _Champion(asked, objects)
        following = asyncio.create_task(
            follow(
                MODEL_PROMOTED,
                ModelPromoted,
                champion.apply,
                service,
                publisher,
                state=lambda promotion: promotion.role,
            )
        )
        following.add_done_callback(lambda _: service.stopping.set())
        try:
            yield asked
        finally:
            await following
            await publisher.stop()


class _Champion:
    """Gives the client the bundle of the champion that was promoted last."""

    def __init__(self, client: OpenInferenceClient, objects: ObjectStore) -> None:
        self._client = client
        self._objects = objects
        self._since_ms = -1

    async def apply(self, delivery: Delivery[ModelPromoted]) -> bool:
        """Take a promoted bundle; promotions to other roles are not ours, which False says."""
        promotion = delivery.event
        if promotion.role is not Role.CHAMPION:
            return False
        if delivery.envelope.time_ms >= self._since_ms:
            files = await asyncio.to_thread(fetch_bundle, self._objects, promotion.manifest)
            self._client.promote(await asyncio.to_thread(load_bundle, files, promotion.bundle_digest))
            self._since_ms = delivery.envelope.time_ms
        return True
