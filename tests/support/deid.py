"""Fixtures of de-identification: a conftest that imports them has them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import PROFILES, Deidentifier, Profile
from fetalmlops.domain.deid.rules.codes import Codes, RandomCodes
from fetalmlops.domain.deid.rules.profile import CodePolicy
from support import dicom_files

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(scope="session")
def files() -> ModuleType:
    """Makes files: `dicom_files`."""
    return dicom_files


@pytest.fixture(scope="session")
def key() -> PseudonymKey:
    return PseudonymKey("tests", bytes(range(32)))


@pytest.fixture(scope="session")
def deidentifier(key: PseudonymKey) -> Deidentifier:
    return Deidentifier(key)


@pytest.fixture(params=sorted(PROFILES))
def profile(request: pytest.FixtureRequest) -> Profile:
    """Each profile in turn."""
    return PROFILES[request.param]


def codes_for(profile: Profile, key: PseudonymKey, seed: str = "book") -> Codes:
    """Return the key, or where a profile asks for random codes, a book of its own whose codes follow from the seed."""
    if profile.codes is CodePolicy.KEYED:
        return key
    book: dict[tuple[str, str], str] = {}

    def draw(kind: str, value: str) -> str:
        return book.setdefault((kind, value), hashlib.sha256(f"{seed}/{len(book)}".encode()).hexdigest()[:32])

    return RandomCodes(draw)
