"""One running system for the modules that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.deployment import deployed
from support.evidence import Shared
from support.otlp import OtlpReceiver


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """A whole system that sends its spans to a receiver of ours."""
    with OtlpReceiver() as receiver, deployed(f'[telemetry]\notlp_endpoint = "{receiver.endpoint}"\n') as deployment:
        yield Shared(deployment, receiver)
