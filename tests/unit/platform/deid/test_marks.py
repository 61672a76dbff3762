"""The mark of the pseudonym key in the store: the first key leaves it, another one is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.deid.marks import verify_key_mark
from fetalmlops.platform.objects import ObjectStore, open_objects
from fetalmlops.platform.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

OURS, OTHER = PseudonymKey("project", bytes(32)), PseudonymKey("project", b"x" * 32)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_objects(Settings(home=tmp_path), *Zone)


def test_the_first_key_marks_the_store_and_may_come_again(objects: ObjectStore) -> None:
    verify_key_mark(objects, OURS)
    verify_key_mark(objects, OURS)
    assert [item.uri for item in objects.walk("phi/keys")] == ["phi/keys/project"]
    assert list(objects.incoming_folder(Zone.PHI).iterdir()) == []


def test_another_key_of_the_same_project_is_refused_and_changes_nothing(objects: ObjectStore) -> None:
    verify_key_mark(objects, OURS)
    with pytest.raises(SettingsError, match="restore the key file"):
        verify_key_mark(objects, OTHER)
    verify_key_mark(objects, OURS)


def test_another_project_has_a_mark_of_its_own(objects: ObjectStore) -> None:
    verify_key_mark(objects, OURS)
    verify_key_mark(objects, PseudonymKey("another", b"x" * 32))
    verify_key_mark(objects, OURS)
