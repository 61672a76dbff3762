"""The object store, the same over files and over a real S3 endpoint."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from fetalmlops.domain.contracts.events import ObjectRef
from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.errors import DigestMismatchError, ObjectMissingError, SettingsError, TransientError
from fetalmlops.platform.objects import ObjectStore, StoreFullError, open_objects
from fetalmlops.platform.settings import ObjectSettings, Settings

URI = "clean/frames/2026-01-01T00/{}"


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    settings = Settings(home=tmp_path)
    if request.param == "s3":
        settings = settings.model_copy(update={"objects": request.getfixturevalue("s3_settings")})
    return open_objects(settings)


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    return URI.format(hashlib.sha256(request.node.name.encode()).hexdigest())


def test_round_trip(objects: ObjectStore, uri: str) -> None:
    ref = objects.put(uri, b"abc", "text/plain")
    assert ref == ObjectRef(uri=uri, sha256=hashlib.sha256(b"abc").hexdigest(), size=3, media_type="text/plain")
    assert objects.get(ref) == objects.read(uri) == b"abc"
    assert objects.exists(uri)
    assert uri in [item.uri for item in objects.walk("clean/frames")]
    assert objects.folders("clean/frames") == ["2026-01-01T00"]
    assert objects.folders("clean/none") == list(objects.walk("clean/none")) == []
    objects.delete([uri, uri])
    assert not objects.exists(uri)
    with pytest.raises(ObjectMissingError):
        objects.get(ref)


def test_an_opened_object_is_read_where_it_is_asked_for(objects: ObjectStore, uri: str) -> None:
    data = os.urandom(300_000)
    objects.put(uri, data, "text/plain")
    with objects.open(uri) as file:
        assert file.seek(0, os.SEEK_END) == len(data)
        for offset, count in ((0, 10), (70_000, 10_000), (299_990, 65_536), (300_000, 5), (200_000, 100)):
            file.seek(offset)
            assert file.read(count) == data[offset : offset + count]
        file.seek(100_000)
        assert file.read(-1) == data[100_000:]
    objects.delete([uri])
    with pytest.raises(ObjectMissingError):
        objects.open(uri)


@pytest.mark.parametrize("there", [True, False])
def test_a_deletion_in_files_is_durable_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    objects, real, synced = open_objects(Settings(home=tmp_path)), os.fsync, []
    uris = [URI.format(name) for name in "ab"]
    for uri in uris:
        objects.put(uri, b"abc", "text/plain")
    folder = tmp_path / "objects" / "clean" / "frames" / "2026-01-01T00"
    if not there:  # deleted by one that was killed before it could make that durable
        for path in folder.iterdir():
            path.unlink()

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append((os.fstat(descriptor).st_ino, sorted(folder.iterdir())))

    monkeypatch.setattr(os, "fsync", fsync)
    objects.delete(uris)
    assert synced == [(folder.stat().st_ino, [])]  # once, and after the last one was gone


def test_the_first_object_of_a_name_stays_and_is_the_one_cited(objects: ObjectStore, uri: str) -> None:
    first = objects.put(uri, b"one", "text/plain")
    assert objects.put(uri, b"two", "text/plain") == first
    assert objects.get(first) == b"one"


def test_a_torn_object_is_replaced(objects: ObjectStore, uri: str) -> None:
    objects.put(uri, b"on", "text/plain")
    assert objects.get(objects.put(uri, b"one", "text/plain")) == b"one"


def test_altered_bytes_are_refused(objects: ObjectStore, uri: str) -> None:
    ref = objects.put(uri, b"abc", "text/plain")
    other = ObjectRef(uri=ref.uri, sha256="0" * 64, size=3, media_type="text/plain")
    with pytest.raises(DigestMismatchError):
        objects.get(other)
    with pytest.raises(DigestMismatchError), objects.local(other):
        pass
    with objects.local(ref) as place:
        assert place.read_bytes() == b"abc"


def test_large_files(objects: ObjectStore, uri: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(12_000_000))
    ref = objects.put_file(uri, source, "application/dicom")
    source.unlink()
    with objects.local(ref) as place:
        assert hashlib.sha256(place.read_bytes()).hexdigest() == ref.sha256


def test_places_outside_the_zones_are_refused(objects: ObjectStore) -> None:
    for uri in ("elsewhere/x", "clean/../phi/x"):
        with pytest.raises(SettingsError):
            objects.put(uri, b"", "text/plain")


def test_a_process_reaches_only_its_zones(tmp_path: Path) -> None:
    objects = open_objects(Settings(home=tmp_path), Zone.CLEAN)
    with pytest.raises(SettingsError):
        objects.read("phi/instances/x")


def test_a_store_that_is_away_is_transient(tmp_path: Path) -> None:
    away = ObjectSettings(
        clean_url="s3://x-y-z",
        s3_endpoint="http://127.0.0.1:1",
        s3_allow_http=True,
        s3_access_key_id="k",
        s3_secret_access_key="s",
    )
    objects = open_objects(Settings(home=tmp_path, objects=away), Zone.CLEAN)
    with pytest.raises(TransientError) as caught:
        objects.put(URI.format("x"), b"x", "text/plain")
    assert caught.value.everyone


def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=False).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        objects = open_objects(Settings(home=tmp_path, objects=ObjectSettings(clean_url=mount.as_uri())), Zone.CLEAN)
        with pytest.raises(StoreFullError):
            objects.put(URI.format("big"), b"x" * 2_000_000, "text/plain")
        small = objects.put(URI.format("small"), b"x" * 1000, "text/plain")
        assert objects.get(small)
    finally:
        subprocess.run(["umount", mount], check=True)
