"""``fetalmlops provision``: topics, and a model that serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.platform.bus import Publisher
from fetalmlops.platform.health import Health
from fetalmlops.platform.inference.bundles import packaged_bundle
from fetalmlops.platform.inference.promotion import provision_model
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.provisioning import provision_topics
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from fetalmlops.platform.settings import Settings

__all__ = ["provide_model", "provision"]


def provision() -> None:
    """Create the topics, and where no promotion exists, promote the bundle that inference.bundle names. Harmless twice."""
    settings = load_settings()
    provision_topics(settings.kafka)
    promoted = provide_model(settings)
    typer.echo(f"promoted {promoted}" if promoted else "a model is promoted already")


def provide_model(settings: Settings) -> str | None:
    """Make sure that a model serves.

    Returns
    -------
    str or None
        Name and version of the model that was promoted now, and by whom; None where there was one.

    Raises
    ------
    FetalMLOpsError
        If the broker or the object store does not answer.
    """
    return asyncio.run(_provide_model(settings))


async def _provide_model(settings: Settings) -> str | None:
    publisher = Publisher(settings.kafka, Health("provision"))
    files = packaged_bundle(settings.inference.bundle)
    try:
        promoted = await provision_model(files, settings.kafka, open_objects(settings, Zone.CLEAN), publisher)
    finally:
        await publisher.stop()
    return f"{promoted.model} {promoted.version} as actor {promoted.actor}" if promoted else None
