"""A real inference service without a broker: ``python inference_process.py PORT``; it prints its port once it serves.

Further arguments are settings of the service, such as ``queue_frames=4``.
"""

from __future__ import annotations

import asyncio
import sys

from fetalmlops.domain.models.bundle import load_bundle
from fetalmlops.inference.hosting import ModelHost
from fetalmlops.inference.server import InferenceServer
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.settings import InferenceSettings


async def main(port: str, *changes: str) -> None:
    settings = InferenceSettings.model_validate({"port": port, **dict(change.split("=", 1) for change in changes)})
    host = ModelHost(settings)
    server = InferenceServer(host, settings)
    await server.start()
    await host.swap(load_bundle(bundled_files()))
    await server.set_ready(ready=True)
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
