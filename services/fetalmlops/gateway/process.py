"""The gateway process: children that decode, a client of the inference service, and the HTTP server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fetalmlops.domain.errors import SettingsError
from fetalmlops.gateway.accounts import KeysFile, is_loopback
from fetalmlops.gateway.app import make_app
from fetalmlops.gateway.child import Frames
from fetalmlops.gateway.classifying import Classifier
from fetalmlops.gateway.observing import Observed
from fetalmlops.gateway.server import GatewayServer
from fetalmlops.gateway.uploads import Desk
from fetalmlops.gateway.watching import Watch
from fetalmlops.platform.dicom.devices import DevicesFolder
from fetalmlops.platform.inference.client import open_inference
from fetalmlops.platform.sandbox.parent import Sandbox
from fetalmlops.platform.telemetry import get_logger

if TYPE_CHECKING:
    from fetalmlops.platform.service import Service
    from fetalmlops.platform.settings import GatewaySettings

__all__ = ["main"]

_GRACE_S: Final = 10
_log = get_logger(__name__)


async def main(service: Service) -> None:
    """Serve until asked to stop, then finish what is in work.

    Raises
    ------
    SettingsError
        If callers of other machines could come without a key, the address is taken, or a file cannot be read.
    """
    settings = service.settings
    keys = KeysFile(settings.gateway_keys_file)
    keyed = _require_keys(settings.gateway, keys)
    devices = DevicesFolder(settings.devices_folder)
    async with open_inference(settings.inference) as inference, _children(settings.gateway) as sandbox:
        watch = Watch(inference, service.health)
        classifier = Classifier(settings, sandbox, inference, watch, devices)
        app = make_app(classifier, watch, Desk(settings.gateway), keys, service.health, keyed=keyed)
        server = GatewayServer(Observed(app), settings.gateway, grace_s=_GRACE_S)
        service.health.note("port", server.port)
        service.started()
        await _serve(service, server, watch)


async def _serve(service: Service, server: GatewayServer, watch: Watch) -> None:
    watching = asyncio.create_task(watch.run())
    serving = asyncio.create_task(server.run_until_stopped())
    stopping = asyncio.create_task(service.stopping.wait())
    try:
        await asyncio.wait({watching, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
    finally:
        server.stop()
        await serving
        watching.cancel()
        stopping.cancel()
        await asyncio.gather(watching, stopping, return_exceptions=True)


def _require_keys(settings: GatewaySettings, keys: KeysFile) -> bool:
    """Return whether callers need a key from the start."""
    if keys.current().keys:
        return True
    if not is_loopback(settings.host):
        msg = (
            f"Expected a key for callers of other machines, since gateway.host is {settings.host}, got none; make one with "
            "`fetalmlops keys gateway add`, or listen on 127.0.0.1"
        )
        raise SettingsError(msg)
    _log.warning("keys_missing", what="nobody has a key: every program of this machine may call")
    return False


def _children(settings: GatewaySettings) -> Sandbox[Frames]:
    return Sandbox(
        "fetalmlops.gateway.child:read_file",
        Frames,
        initializer="fetalmlops.platform.dicom.decoding:configure",
        workers=settings.children,
        memory_bytes=settings.child_memory_bytes,
        timeout=settings.decode_timeout_s,
        # A caller waits for them: behind the processes that feed them they would come last.
        niceness=0,
    )
