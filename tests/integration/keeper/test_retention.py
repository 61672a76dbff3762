"""Deletion by lifetime over files and a real S3 endpoint: also after a keeper that was killed half-way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fetalmlops.keeper.retention import delete_expired
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import KeeperSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fetalmlops.platform.objects import ObjectStore

HOUR = "2020-01-01T00"
AT_ONCE = KeeperSettings(phi_days=1e-9, clean_days=1)


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    settings = Settings(home=tmp_path)
    if request.param == "s3":
        settings = settings.model_copy(update={"objects": request.getfixturevalue("s3_settings")})
    return open_objects(settings)


def keep(objects: ObjectStore, *names: str) -> None:
    for name in names:
        objects.put(f"phi/instances/{HOUR}/{name}.dcm", b"instance", "application/dicom")
        objects.put(f"clean/done/{HOUR}/{name}", b"", "text/plain")


def left(objects: ObjectStore) -> list[str]:
    return sorted(item.uri for prefix in ("phi/instances", "clean/done") for item in objects.walk(prefix))


def test_markers_go_with_their_instances(objects: ObjectStore) -> None:
    keep(objects, "a", "b")
    time.sleep(1.1)  # S3 tells seconds
    assert delete_expired(objects, AT_ONCE, ()) == 4
    assert left(objects) == []


def test_markers_that_a_killed_pass_left_are_deleted_by_the_next_one(objects: ObjectStore) -> None:
    # Killed after the last instance of its hour was deleted: S3 then knows no such hour of instances any more.
    for name in "ab":
        objects.put(f"clean/done/2020-01-01T01/{name}", b"", "text/plain")
    assert "2020-01-01T01" not in objects.folders("phi/instances")
    assert delete_expired(objects, AT_ONCE, ()) == 2
    assert left(objects) == []


def test_markers_stay_while_an_instance_of_their_hour_does(objects: ObjectStore) -> None:
    keep(objects, "a", "b")
    objects.delete([f"phi/instances/{HOUR}/a.dcm"])
    assert delete_expired(objects, AT_ONCE, {f"{HOUR}/b"}) == 0
    assert len(left(objects)) == 3
    objects.delete(left(objects))
