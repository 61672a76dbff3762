"""Device profiles as files: one TOML file a profile in one folder, watched for changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.deid.pixels.devices import DeviceProfiles, parse_device_profile
from fetalmlops.domain.errors import SettingsError
from fetalmlops.platform.dicom.watched import Watched, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DevicesFolder", "read_device_profiles"]


class DevicesFolder(Watched[DeviceProfiles]):
    """The profiles that count now. Safe to use from any thread.

    One file that is not valid leaves all profiles as they were.

    Parameters
    ----------
    folder
        The folder. Where there is none, there are no profiles.
    check_every_s
        Least time between two looks at the folder, in seconds.

    Raises
    ------
    SettingsError
        As `read_device_profiles`, at the start.
    """

    def __init__(self, folder: Path, *, check_every_s: float = 1.0) -> None:
        super().__init__(
            "device_profiles",
            lambda: tuple(fingerprint(path) for path in _files(folder)),
            lambda: read_device_profiles(folder),
            check_every_s=check_every_s,
        )


def read_device_profiles(folder: Path) -> DeviceProfiles:
    """Read all profiles of a folder, by file name; where there is no folder, there are none.

    Raises
    ------
    SettingsError
        If a file cannot be read or is not a valid profile, or two are of the same device.
    """
    return DeviceProfiles(parse_device_profile(_text(path), str(path)) for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml"))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected {path} to be a readable UTF-8 file, got {type(error).__name__}; mend the file"
        raise SettingsError(msg) from None
