"""Run the anonymizer: ``python -m fetalmlops.anonymizer``."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

from fetalmlops.anonymizer.child import CleanFile
from fetalmlops.anonymizer.revisions import Revisions
from fetalmlops.anonymizer.stage import DRAFT_PREFIX, Anonymizer
from fetalmlops.anonymizer.texts import Texts, rules_digest
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.deid import PROFILES
from fetalmlops.domain.deid.devices import DeviceProfiles
from fetalmlops.domain.deid.trust import TrustPolicy
from fetalmlops.domain.errors import TransientError
from fetalmlops.platform.dicom.devices import read_device_profiles
from fetalmlops.platform.dicom.sources import SourcesFile
from fetalmlops.platform.keys import load_pseudonym_key, load_vault_keys
from fetalmlops.platform.keyvalue import open_valkey
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.service import run_service
from fetalmlops.platform.streams import process
from fetalmlops.platform.trust import ValkeyTrust
from fetalmlops.platform.vault import ValkeyVault

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.settings import AnonymizerSettings

_RETRY_S = 0.5
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
    devices = read_device_profiles(settings.devices_folder)
    objects = open_objects(settings)
    valkey = open_valkey(settings)
    vault = ValkeyVault(valkey, vault_keys, key.project, reload=lambda: load_vault_keys(settings))
    await _open_vault(vault, key.fingerprint, service)
    _remove_drafts(objects)
    children = Sandbox(
        "fetalmlops.anonymizer.child:deidentify_file",
        CleanFile,
        initializer=_TEXT_INITIALIZER if settings.anonymizer.text_detection else _INITIALIZER,
        workers=settings.normalizer.children,
        memory_bytes=settings.normalizer.child_memory_bytes,
        timeout=_CHILD_TIMEOUT_S,
    )
    profile = PROFILES[settings.deidentification_profile]
    async with children as sandbox:
        texts = _texts(settings.anonymizer, valkey, key, rules_digest(profile.digest, DeviceProfiles(devices).digest))
        revisions = Revisions(valkey)
        anonymizer = Anonymizer(objects, sandbox, vault, revisions, key, profile, sources.current, devices, texts)
        await process(anonymizer.stage, service, objects, valkey)
    await valkey.aclose()


def _texts(settings: AnonymizerSettings, valkey: Redis, key: PseudonymKey, rules: str) -> Texts:
    if not settings.text_detection:
        return Texts()
    return Texts(
        ValkeyTrust(valkey, key, rules, TrustPolicy(settings.trust_clean_images, settings.trust_sample_one_in))
    )


async def _open_vault(vault: ValkeyVault, fingerprint: str, service: Service) -> None:
    """Wait for Valkey, and make sure that our keys open the vault before anything is put into it."""
    while not service.stopping.is_set():
        try:
            await vault.verify(fingerprint)
        except TransientError as error:
            service.health.waiting_for(error.dependency)
            await asyncio.sleep(_RETRY_S)
        else:
            service.health.served_by("valkey")
            return


def _remove_drafts(objects: ObjectStore) -> None:
    """Remove what anonymizers that were killed have left; another one's draft is younger."""
    for folder in objects.incoming_folder(Zone.CLEAN).glob(f"{DRAFT_PREFIX}*"):
        if time.time() - folder.stat().st_mtime > _DRAFT_AGE_S:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run_service("anonymizer", main)
