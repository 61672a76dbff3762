from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from fetalmlops.domain.errors import ObjectMissingError
from fetalmlops.platform.embedded import EmbeddedError, EmbeddedSystem
from fetalmlops.platform.embedded import system as system_module
from fetalmlops.platform.embedded.files import disk_errors, write_file
from fetalmlops.platform.embedded.layout import LAYOUT_VERSION, Layout


def test_a_state_folder_is_private_and_versioned(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a" / "home")

    layout.prepare()

    assert layout.exists()
    folders = [layout.home, layout.run, layout.logs, layout.data, layout.secrets]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    assert layout.version_file.read_text() == f"{LAYOUT_VERSION}\n"


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    (layout.data / "file").write_text("kept")

    layout.prepare()

    assert (layout.data / "file").read_text() == "kept"


@pytest.mark.parametrize("version", ["0", "2", "", "one", "9" * 100])
def test_another_version_is_refused(tmp_path: Path, version: str) -> None:
    (tmp_path / "layout").write_text(version)

    with pytest.raises(EmbeddedError, match=r"Expected layout version 1 in .*; use the release that wrote"):
        Layout(tmp_path).prepare()
    assert not (tmp_path / "data").exists()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(EmbeddedError, match="a folder with other files"):
        Layout(tmp_path).prepare()


def test_settings_and_keys_may_be_placed_beforehand(tmp_path: Path) -> None:
    (tmp_path / "fetalmlops.toml").touch()
    (tmp_path / "secrets").mkdir()

    Layout(tmp_path).prepare()

    assert Layout(tmp_path).exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedError, match="choose another FETALMLOPS_HOME"):
        Layout(tmp_path / "file" / "home").prepare()


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free some disk space"), (errno.EROFS, "read-only"), (errno.EACCES, "the right to write")],
)
def test_disk_errors_say_what_to_do(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(EmbeddedError, match=advice), disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ports.json"
    write_file(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ports.json"]


def test_up_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_module.shutil, "disk_usage", lambda _path: SimpleNamespace(free=3 << 20))

    with pytest.raises(EmbeddedError, match="got 3 MiB; free some disk space"):
        EmbeddedSystem(tmp_path / "home", usual_ports=False).up(["valkey"])


def test_an_error_raised_on_purpose_is_not_taken_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError), disk_errors(tmp_path):
        raise ObjectMissingError("a cited object is missing")
