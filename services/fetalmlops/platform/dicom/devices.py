"""Device profiles as files: one TOML file a profile in one folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.deid.devices import DeviceProfile, DeviceProfiles, parse_device_profile
from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_device_profiles"]


def read_device_profiles(folder: Path) -> list[DeviceProfile]:
    """Read all profiles of a folder, by file name; where there is no folder, there are none.

    Raises
    ------
    SettingsError
        If a file cannot be read or is not a valid profile, or two are of the same device.
    """
    profiles = [parse_device_profile(_text(path), str(path)) for path in sorted(folder.glob("*.toml"))]
    DeviceProfiles(profiles)
    return profiles


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Expected {path} to be a readable UTF-8 file, got {type(error).__name__}; mend the file"
        raise SettingsError(msg) from None
