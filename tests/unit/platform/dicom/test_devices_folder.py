"""The folder of device profiles: read, reloaded, and kept where a new file is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.dicom.devices import DevicesFolder, read_device_profiles

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = """
name = "room-1"
version = 1
rectangles = [[8, 10, 72, 50]]

[device]
manufacturer = "MAKER"
model = "MODEL"
software = "1.0"
rows = 60
columns = 80
photometric = "MONOCHROME2"
"""
OTHER = PROFILE.replace("room-1", "room-2").replace("MODEL", "OTHER")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "devices"
    place.mkdir()
    return place


def test_no_folder_is_no_profile(tmp_path: Path) -> None:
    assert len(read_device_profiles(tmp_path / "devices")) == 0


def test_a_new_a_changed_and_a_removed_file_count_without_a_restart(folder: Path) -> None:
    devices = DevicesFolder(folder, check_every_s=0)
    digests = [devices.current().digest]
    (folder / "one.toml").write_text(PROFILE)
    digests.append(devices.current().digest)
    (folder / "one.toml").write_text(PROFILE.replace("version = 1", "version = 2"))
    digests.append(devices.current().digest)
    (folder / "two.toml").write_text(OTHER)
    digests.append(devices.current().digest)
    assert len(devices.current()) == 2
    (folder / "one.toml").unlink()
    (folder / "two.toml").unlink()
    assert len(set(digests)) == 4
    assert devices.current().digest == digests[0] == ""


@pytest.mark.parametrize(
    "broken",
    [
        "name = ",
        PROFILE.replace("version = 1", "version = 0"),
        PROFILE.replace("room-1", "same-device"),
        "\0",
    ],
)
def test_one_broken_file_leaves_the_old_state_serving_and_is_said(folder: Path, broken: str) -> None:
    (folder / "one.toml").write_text(PROFILE)
    devices = DevicesFolder(folder, check_every_s=0)
    before = devices.current()
    (folder / "one.toml").write_text(PROFILE.replace("version = 1", "version = 2"))
    (folder / "two.toml").write_text(broken)
    assert devices.current() is before
    assert devices.problem.startswith("Expected ")
    (folder / "two.toml").write_text(OTHER)
    assert (len(devices.current()), devices.problem) == (2, "")


def test_a_broken_file_at_the_start_is_refused_with_its_name(folder: Path) -> None:
    (folder / "one.toml").write_text("name = ")
    with pytest.raises(SettingsError, match=r"one\.toml"):
        DevicesFolder(folder)


def test_profiles_reach_another_process_as_they_are(folder: Path) -> None:
    assert DeviceProfiles.decode(DeviceProfiles().encoded).digest == ""
    for name, text in (("one", PROFILE), ("two", OTHER)):
        (folder / f"{name}.toml").write_text(text)
    profiles = read_device_profiles(folder)
    assert DeviceProfiles.decode(profiles.encoded).digest == profiles.digest != ""
