"""Run the normalizer: ``python -m fetalmlops.normalizer``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.imaging.frames import NormalizedObject
from fetalmlops.normalizer.stage import Normalizer
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.service import run_service
from fetalmlops.platform.streams import process

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service

_CHILD_TIMEOUT_S = 3600.0  # the deadline of the stage comes first


async def main(service: Service) -> None:
    """Normalise until asked to stop."""
    settings = service.settings
    objects = open_objects(settings, Zone.CLEAN)
    valkey = open_valkey(settings)
    children = Sandbox(
        "fetalmlops.platform.dicom.decoding:normalize_part10",
        NormalizedObject,
        initializer="fetalmlops.platform.dicom.decoding:configure",
        workers=settings.normalizer.children,
        memory_bytes=settings.normalizer.child_memory_bytes,
        timeout=_CHILD_TIMEOUT_S,
    )
    async with children as sandbox:
        await process(Normalizer(objects, sandbox, settings.normalizer.pipelines).stage, service, objects, valkey)
    await valkey.aclose()


if __name__ == "__main__":
    run_service("normalizer", main)
