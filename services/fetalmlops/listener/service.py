"""The listener's wiring."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.listener.announcer import Announcer
from fetalmlops.listener.backlog import Backlog
from fetalmlops.listener.reception import Intake, clear_incoming
from fetalmlops.listener.scp import StorageProvider
from fetalmlops.listener.sweeper import Sweeper
from fetalmlops.platform.deid.keys import load_pseudonym_key
from fetalmlops.platform.deid.marks import verify_key_mark
from fetalmlops.platform.dicom.sources import SourcesFile
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service

__all__ = ["listen"]

_LEAST_FLUSH_S = 2.0
_log = get_logger(__name__)


async def listen(service: Service) -> None:
    """Serve DICOM until asked to stop, then let open associations finish and publish what waits.

    Raises
    ------
    SettingsError
        If settings or the sources table are wrong, or the key is not that of the store.
    TransientError
        If the port is taken.
    """
    settings = service.settings
    key = load_pseudonym_key(settings)
    objects = open_objects(settings)
    await service.until_answered(lambda: asyncio.to_thread(verify_key_mark, objects, key))
    announcer = Announcer(settings.kafka, service.health)
    intake = Intake(settings.listener, key, objects, SourcesFile(settings.sources_file), announcer, service.health)
    provider = StorageProvider(intake)
    sweeper = Sweeper(settings.listener, settings.kafka, Backlog(objects, key), announcer, service.health)
    removed = clear_incoming(objects.incoming_folder(Zone.PHI))
    announcer.start()
    sweeper.start()
    provider.start()
    service.started()
    service.health.note("dicom_port", provider.port)
    service.health.note("ae_title", settings.listener.ae_title)
    _log.info("listening", port=provider.port, abandoned_files_removed=removed)
    await service.stopping.wait()
    await asyncio.to_thread(_stop, provider, sweeper, announcer, settings.listener.drain_timeout_s)


def _stop(provider: StorageProvider, sweeper: Sweeper, announcer: Announcer, timeout_s: float) -> None:
    begun = time.monotonic()
    cut_off = provider.stop(max(0.0, timeout_s - _LEAST_FLUSH_S))
    sweeper.stop()
    left = announcer.stop(max(_LEAST_FLUSH_S, timeout_s - (time.monotonic() - begun)))
    _log.info("drained", associations_cut_off=cut_off, announcements_left_to_the_sweep=left)
