from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from fetalmlops.platform.embedded import EmbeddedError, EmbeddedSystem, jars


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETALMLOPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three small jars, and a committed list that names them."""
    folder = tmp_path / "source"
    folder.mkdir()
    contents = {"a-1.jar": b"a", "b-2.jar": b"b", "c-3.jar": b"c"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(jars, "expected_sums", lambda: sums)
    return folder


def test_every_committed_sum_is_a_sha256() -> None:
    sums = jars.expected_sums()

    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in sums.values())
    assert all(re.fullmatch(r"[\w.-]+\.jar", name) for name in sums)
    assert {"kafka_2.13-4.3.1.jar", "kafka-clients-4.3.1.jar", "log4j-slf4j-impl-2.25.4.jar"} <= sums.keys()


def test_the_list_names_no_registry() -> None:
    text = (Path(jars.__file__).parent / f"kafka-{jars.KAFKA_VERSION}.sha256").read_text()

    assert "http" not in text + Path(jars.__file__).read_text()


def test_jars_are_kept_in_the_cache(cache: Path, source: Path) -> None:
    folder = jars.fetch_jars(source)

    assert folder == cache / "kafka-4.3.1"
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.jar", "b-2.jar", "c-3.jar"]
    assert jars.find_jars() == folder
    assert [path.name for path in cache.iterdir()] == ["kafka-4.3.1"]


def test_a_second_set_up_needs_no_source(cache: Path, source: Path) -> None:
    jars.fetch_jars(source)

    assert jars.fetch_jars(source / "missing") == cache / "kafka-4.3.1"


def test_a_wrong_sum_is_refused_and_named(cache: Path, source: Path) -> None:
    (source / "b-2.jar").write_bytes(b"another")

    with pytest.raises(EmbeddedError, match=r"b-2\.jar has another SHA-256 than the committed one; nothing was kept"):
        jars.fetch_jars(source)
    assert not (cache / "kafka-4.3.1").exists()
    assert list(cache.iterdir()) == []


def test_a_missing_jar_is_named(cache: Path, source: Path) -> None:
    (source / "c-3.jar").unlink()

    with pytest.raises(EmbeddedError, match=r"c-3\.jar is missing"):
        jars.fetch_jars(source)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [("a-1.jar", b"tampered", r"a-1\.jar has another SHA-256"), ("evil.jar", b"x", r"evil\.jar is not one of Kafka's")],
)
def test_a_cache_that_was_changed_is_not_used(
    cache: Path, source: Path, name: str, content: bytes, complaint: str
) -> None:
    folder = jars.fetch_jars(source)
    (folder / name).write_bytes(content)

    with pytest.raises(EmbeddedError, match=complaint):
        jars.find_jars()
    assert sorted(path.name for path in jars.fetch_jars(source).iterdir()) == ["a-1.jar", "b-2.jar", "c-3.jar"]


def test_up_without_set_up_says_so(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="run `fetalmlops setup` once"):
        EmbeddedSystem(tmp_path / "home", usual_ports=False).up(["broker"])


def test_the_cache_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FETALMLOPS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_folder() == tmp_path / "fetalmlops"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jars.cache_folder() == tmp_path / ".cache" / "fetalmlops"
