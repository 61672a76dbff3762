"""Fixtures of the de-identification tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(scope="session")
def files() -> ModuleType:
    """Makes files: `dicom_files`."""
    name = "deid_dicom_files"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "dicom_files.py")
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def key() -> PseudonymKey:
    return PseudonymKey("tests", bytes(range(32)))


@pytest.fixture(scope="session")
def deidentifier(key: PseudonymKey) -> Deidentifier:
    return Deidentifier(key)
