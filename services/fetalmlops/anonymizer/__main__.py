"""Run the anonymizer: ``python -m fetalmlops.anonymizer``."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fetalmlops.anonymizer.child import CleanFile
from fetalmlops.anonymizer.readers import Readers
from fetalmlops.anonymizer.revisions import Revisions
from fetalmlops.anonymizer.stage import DRAFT_PREFIX, Anonymizer
from fetalmlops.anonymizer.texts import Texts
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.deid import PROFILES
from fetalmlops.domain.deid.pixels.trust import TrustPolicy
from fetalmlops.platform.deid.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.deid.marks import verify_key_mark
from fetalmlops.platform.deid.trust import ValkeyTrust
from fetalmlops.platform.deid.vault import ValkeyVault
from fetalmlops.platform.dicom.devices import DevicesFolder
from fetalmlops.platform.dicom.sources import SourcesFile
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.service import run_service
from fetalmlops.platform.streams import process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.settings import AnonymizerSettings

_CHILD_START_S = 300.0  # models are loaded, beside whatever else the machine does
_LOOK_S = 1.0
_DRAFT_AGE_S = 3600.0
_INITIALIZER = "fetalmlops.platform.dicom.decoding:configure"
_TEXT_INITIALIZER = "fetalmlops.anonymizer.child:prepare_text"
_CHILD_TIMEOUT_S = 3600.0  # the deadline of the stage comes first


async def main(service: Service) -> None:
    """De-identify until asked to stop.

    Raises
    ------
    SettingsError
        If a key is missing, the vault's keys are not those that wrote it, or a device profile is not valid.
    """
    settings = service.settings
    key, vault_keys = load_pseudonym_key(settings), load_vault_keys(settings)
    sources = SourcesFile(settings.sources_file)
    devices = DevicesFolder(settings.devices_folder)
    objects = open_objects(settings)
    valkey = open_valkey(settings)
    vault = ValkeyVault(valkey, vault_keys, key.project, reload=lambda: load_vault_keys(settings))
    # Before anything is put into it.
    await service.until_answered(lambda: vault.verify(key.fingerprint))
    await service.until_answered(lambda: asyncio.to_thread(verify_key_mark, objects, key))
    _remove_drafts(objects)
    children = _children(_INITIALIZER, settings.normalizer.children, settings.normalizer.child_memory_bytes)
    text_children = Readers(lambda: _text_children(settings.anonymizer), settings.anonymizer.text_children)
    async with children as sandbox, text_children as readers, _watching(service, sources, devices):
        anonymizer = Anonymizer(
            objects,
            sandbox,
            vault,
            Revisions(valkey),
            key,
            PROFILES[settings.deidentification_profile],
            sources.current,
            devices.current,
            _texts(settings.anonymizer, valkey, key),
            readers,
        )
        await process(anonymizer.stage, service, objects, valkey)
    await valkey.aclose()


def _text_children(settings: AnonymizerSettings) -> Sandbox[CleanFile]:
    # The text engine keeps something of every width of text, up to 1.5 GiB of address space (0.4 GiB of memory) after 300
    # images: a child that is replaced for that costs its start of seconds again and again.
    memory = settings.text_child_memory_bytes
    return _children(_TEXT_INITIALIZER, settings.text_children, memory, memory // 2)


def _children(initializer: str, workers: int, memory: int, kept: int | None = None) -> Sandbox[CleanFile]:
    return Sandbox(
        "fetalmlops.anonymizer.child:deidentify_file",
        CleanFile,
        initializer=initializer,
        workers=workers,
        memory_bytes=memory,
        kept_bytes=kept,
        timeout=_CHILD_TIMEOUT_S,
        start_timeout=_CHILD_START_S,
    )


def _texts(settings: AnonymizerSettings, valkey: Redis, key: PseudonymKey) -> Texts:
    if not settings.text_detection:
        return Texts()
    policy = TrustPolicy(settings.trust_clean_images, settings.trust_sample_one_in)
    return Texts(ValkeyTrust(valkey, key, policy=policy))


@asynccontextmanager
async def _watching(service: Service, sources: SourcesFile, devices: DevicesFolder) -> AsyncIterator[None]:
    """Look at what people change, though no instance comes, and say in the health what of it does not count."""

    async def look() -> None:
        while True:
            sources.current()
            devices.current()
            service.health.note("sources_problem", sources.problem or None)
            service.health.note("devices_problem", devices.problem or None)
            await asyncio.sleep(_LOOK_S)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()


def _remove_drafts(objects: ObjectStore) -> None:
    """Remove what anonymizers that were killed have left; another one's draft is younger."""
    for folder in objects.incoming_folder(Zone.CLEAN).glob(f"{DRAFT_PREFIX}*"):
        if time.time() - folder.stat().st_mtime > _DRAFT_AGE_S:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run_service("anonymizer", main)
