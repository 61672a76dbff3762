"""Fixtures for all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


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
