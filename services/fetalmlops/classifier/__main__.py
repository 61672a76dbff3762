"""Run the classifier: ``python -m fetalmlops.classifier``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.classifier.stage import Classifier
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.inference.client import open_inference
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.service import run_service
from fetalmlops.platform.streams import process

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service


async def main(service: Service) -> None:
    """Classify until asked to stop."""
    objects = open_objects(service.settings, Zone.CLEAN)
    valkey = open_valkey(service.settings)
    async with open_inference(service.settings.inference) as inference:
        await process(Classifier(objects, inference, Claims(valkey)).stage, service, objects, valkey)
    await valkey.aclose()


if __name__ == "__main__":
    run_service("classifier", main)
