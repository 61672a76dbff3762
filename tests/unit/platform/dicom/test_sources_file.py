"""The sources table as a file: read, reloaded, extended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.contracts.sources import PixelTrust, Source, UnlistedAction
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.dicom.sources import SourcesFile, add_source, read_sources, write_default_sources

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = '[[source]]\nid = "room-1"\nae_title = "SCANNER"\nsite = "north"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sources.toml"


def test_a_missing_file_lists_nobody(path: Path) -> None:
    assert read_sources(path).match("FETALSIM", "127.0.0.1") is None


def test_the_first_table_lists_the_simulator_on_this_machine_only(path: Path) -> None:
    assert write_default_sources(path)
    table = read_sources(path)
    found = table.match("FETALSIM", "127.0.0.1")
    assert found is not None
    assert found.pixels is PixelTrust.REGIONS
    assert table.match("FETALSIM", "192.0.2.1") is None
    assert table.unlisted is UnlistedAction.REJECT
    assert path.stat().st_mode & 0o077 == 0


def test_a_table_that_exists_is_never_overwritten(path: Path) -> None:
    path.write_text(ENTRY)
    assert not write_default_sources(path)
    assert path.read_text() == ENTRY


def test_a_change_counts_without_a_restart(path: Path) -> None:
    file = SourcesFile(path, check_every_s=0)
    assert file.current().get("room-1") is None
    path.write_text(ENTRY)
    assert file.current().get("room-1") is not None
    path.unlink()
    assert file.current().get("room-1") is None


def test_a_file_is_not_looked_at_for_every_caller(path: Path) -> None:
    file = SourcesFile(path, check_every_s=3600)
    path.write_text(ENTRY)
    assert file.current().get("room-1") is None


def test_a_broken_change_leaves_the_last_good_table(path: Path) -> None:
    path.write_text(ENTRY)
    file = SourcesFile(path, check_every_s=0)
    path.write_text(ENTRY + "[unlisted]\naction = ")
    assert file.current().get("room-1") is not None
    path.write_text(ENTRY + ENTRY.replace("room-1", "room-2"))
    assert file.current().get("room-2") is not None


def test_threads_see_one_table_while_it_changes(path: Path) -> None:
    path.write_text(ENTRY)
    file = SourcesFile(path, check_every_s=0)
    wrong: list[object] = []

    def look() -> None:
        wrong.extend(1 for _ in range(300) if file.current().get("room-1") is None)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 40):
        add_source(path, Source(id=f"room-{number}", ae_title="SCANNER", site="north"))
    for thread in threads:
        thread.join()
    assert not wrong


def test_adding_keeps_comments_and_order(path: Path) -> None:
    write_default_sources(path)
    before = path.read_text()
    added = Source(id="room-1", ae_title="SCANNER", site="north", addresses=("192.0.2.0/24",), pixels=PixelTrust.CLEAN)
    add_source(path, added)
    assert path.read_text().startswith(before.rstrip())
    assert read_sources(path).entries[-1] == added


def test_an_id_is_added_once(path: Path) -> None:
    write_default_sources(path)
    before = path.read_text()
    with pytest.raises(SettingsError, match="simulator"):
        add_source(path, Source(id="simulator", ae_title="SCANNER", site="north"))
    assert path.read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        "[[source]",
        '[[source]]\nid = "room-1"\n',
        ENTRY + 'colour = "blue"\n',
        ENTRY + '[unlisted]\naction = "perhaps"\n',
        "[other]\n",
        "source = 1\n",
    ],
)
def test_a_file_that_is_not_a_table_is_refused_with_its_name(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"sources\.toml"):
        read_sources(path)


def test_a_file_in_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        read_sources(path)
