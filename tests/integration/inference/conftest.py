from __future__ import annotations

import asyncio
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from fetalmlops.domain.models.bundle import Bundle, load_bundle, seal_bundle
from fetalmlops.domain.models.manifest import MANIFEST_NAME
from fetalmlops.inference.hosting import ModelHost
from fetalmlops.inference.server import InferenceServer
from fetalmlops.platform.inference.bundles import bundled_files
from fetalmlops.platform.settings import InferenceSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from fetalmlops.domain.models.engine import Engine

    Serving = Callable[..., AbstractAsyncContextManager[tuple[ModelHost, str]]]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run asynchronous tests, each in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(bundled_files())


@pytest.fixture(scope="session")
def other_bundle(bundle: Bundle) -> Bundle:
    contents = {name: data for name, data in bundle.files.items() if name != MANIFEST_NAME}
    return load_bundle(seal_bundle(msgspec.structs.replace(bundle.manifest, version="9.9.9"), contents))


@pytest.fixture(scope="session")
def frames(bundle: Bundle) -> np.ndarray:
    return bundle.reference.frames


@pytest.fixture
def serving(bundle: Bundle) -> Serving:
    """A real server on a free port: its model host, and its address."""

    @asynccontextmanager
    async def serve(
        *,
        served: Bundle | None = bundle,
        build_engine: Callable[[Bundle], Engine] | None = None,
        **settings: object,
    ) -> AsyncIterator[tuple[ModelHost, str]]:
        configured = InferenceSettings.model_validate({"port": 0, **settings})
        host = ModelHost(configured, build_engine)
        server = InferenceServer(host, configured)
        await server.start()
        if served is not None:
            await host.swap(served)
            await server.set_ready(ready=True)
        try:
            yield host, f"127.0.0.1:{server.port}"
        finally:
            await server.stop(1.0)
            await host.close()

    return serve
