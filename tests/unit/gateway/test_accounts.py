from __future__ import annotations

import os
from pathlib import Path

import pytest

from fetalmlops.domain.errors import SettingsError
from fetalmlops.gateway.accounts import KeysFile, add_key, is_loopback, read_keys, remove_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "gateway-keys.toml"


def test_a_key_is_known_by_its_digest_alone(path: Path) -> None:
    keys = {name: add_key(path, name) for name in ("ris", "research-2")}
    accounts = read_keys(path)
    assert [accounts.find(key) for key in keys.values()] == [*keys]
    assert accounts.find(keys["ris"][:-1]) is None
    assert accounts.find("") is None
    text = path.read_text()
    assert not any(key in text for key in keys.values())
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_removed_key_is_unknown_and_its_name_free(path: Path) -> None:
    first = add_key(path, "ris")
    with pytest.raises(SettingsError, match="free"):
        add_key(path, "ris")
    remove_key(path, "ris")
    assert read_keys(path).find(first) is None
    assert add_key(path, "ris") != first
    with pytest.raises(SettingsError, match="has a key"):
        remove_key(path, "absent")


@pytest.mark.parametrize("name", ["", "A", "a b", "a" * 33, "../a", "a\n"])
def test_names_are_safe_in_logs(path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        add_key(path, name)


@pytest.mark.parametrize(
    "text",
    ["key = 1", "[[key]]\nname = 'a'", "[[key]]\nname = 'a'\nsha256 = 'x'", "x = 1", "[[key", "\xff"],
)
def test_a_file_that_is_wrong_is_told_without_its_content(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text, "latin-1")
    with pytest.raises(SettingsError, match=r"gateway-keys\.toml"):
        read_keys(path)


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    add_key(path, "ris")
    path.chmod(0o620)
    with pytest.raises(SettingsError, match="chmod"):
        read_keys(path)


def test_changes_count_at_once_and_a_broken_file_leaves_what_was(path: Path) -> None:
    file = KeysFile(path, check_every_s=0)
    assert file.current().keys == ()
    key = add_key(path, "ris")
    assert file.current().find(key) == "ris"
    path.write_text("[[key")
    assert file.current().find(key) == "ris"
    assert "gateway-keys.toml" in file.problem
    os.unlink(path)  # noqa: PTH108 - as a person would
    assert file.current().find(key) is None


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "gateway", "")))
