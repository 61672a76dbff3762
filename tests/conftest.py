"""Fixtures for all tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from fetalmlops.platform.settings import Settings


# Run as a process of its own: it registers names that our contracts have.
collect_ignore = ["support/triton.py"]

_HOME = os.environ.get("FETALMLOPS_HOME")


@pytest.fixture(autouse=True)
def _home_of_the_shell() -> Iterator[None]:
    """Undo what ``fetalmlops --home`` does to this process: it would win over the state folders of later tests."""
    yield
    if _HOME is None:
        os.environ.pop("FETALMLOPS_HOME", None)
    else:
        os.environ["FETALMLOPS_HOME"] = _HOME


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """Sample events."""
    place = Path(__file__).parent / "samples.py"
    spec = importlib.util.spec_from_file_location("event_samples", place)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Record the spans that end during the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture(scope="session")
def embedded() -> Iterator[Settings]:
    """A real broker with all topics and a real Valkey on free ports; ``settings.home`` is their state folder.

    They serve the whole session: use keys and groups of your own, and read topics from where your test begins.
    A process started with ``FETALMLOPS_HOME=settings.home`` reads the same settings.
    """
    from fetalmlops.platform.embedded import stop_servers

    inherited = sorted(name for name in os.environ if name.startswith("FETALMLOPS_") and name != "FETALMLOPS_CACHE")
    assert not inherited, f"settings in the environment would win over the fixture's: {', '.join(inherited)}"
    home = Path(tempfile.mkdtemp(prefix="fetalmlops-test-"))
    try:
        yield _started(home)
    finally:
        stop_servers(home)
        shutil.rmtree(home, ignore_errors=True)


def _started(home: Path) -> Settings:
    from fetalmlops.platform.embedded import EmbeddedError, start_servers

    try:
        return start_servers(home)
    except EmbeddedError as error:
        if "fetalmlops setup" in str(error):
            pytest.skip(f"the embedded broker is not set up: {error}")
        raise
