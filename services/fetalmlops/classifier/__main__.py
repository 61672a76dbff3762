"""Run the classifier: ``python -m fetalmlops.classifier``; with ``--role shadow``, the stage that a shadow looks on by."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from fetalmlops.classifier.asking import open_asking
from fetalmlops.classifier.overlays import Overlays
from fetalmlops.classifier.stage import Classifier
from fetalmlops.domain.contracts.planes import Role
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.platform.claims import Claims
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.service import run_service
from fetalmlops.platform.streams import process

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service

_NAMES = {Role.CHAMPION: "classifier", Role.SHADOW: "shadow"}


async def main(service: Service, *, role: Role) -> None:
    """Classify until asked to stop."""
    objects = open_objects(service.settings, Zone.CLEAN)
    valkey = open_valkey(service.settings)
    async with open_asking(service, objects) as inference:
        overlays = Overlays(objects, service.settings.classifier.overlays)
        classifier = Classifier(objects, inference, Claims(valkey), overlays=overlays, role=role)
        await process(classifier.stage, service, objects, valkey)
    await valkey.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m fetalmlops.classifier")
    parser.add_argument("--role", choices=[*_NAMES], type=Role, default=Role.CHAMPION)
    chosen = parser.parse_args().role
    run_service(_NAMES[chosen], partial(main, role=chosen))
