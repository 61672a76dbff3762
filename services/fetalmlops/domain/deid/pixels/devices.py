"""Device profiles: where on the screen of one scanner, with one software, the picture is.

A profile is made and looked at by a person. It applies only where manufacturer, model, software, size and colours are exactly
its own: a scanner that changes any of them has a new screen.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Self

import msgspec
from msgspec import Meta, Struct

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.imaging.layout import PixelLayout

__all__ = ["DEVICE_TAGS", "Device", "DeviceProfile", "DeviceProfiles", "parse_device_profile", "read_device"]

DEVICE_TAGS = (0x0008_0070, 0x0008_1090, 0x0018_1020)
"""Manufacturer, Manufacturer's Model Name, Software Versions: read to match, never written."""

_Word = Annotated[str, Meta(min_length=1, max_length=256, pattern="^[ -~]+$")]
_Size = Annotated[int, Meta(ge=1, le=65535)]
_Place = Annotated[int, Meta(ge=0, le=65535)]
_LEAST_SIDE = 16


class Device(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides the screen of a scanner.

    Parameters
    ----------
    manufacturer, model, software
        As in the header of its images, without surrounding spaces; several software versions stand with a backslash between.
    rows, columns
        Size of the images in pixels.
    photometric
        Photometric Interpretation.
    """

    manufacturer: _Word
    model: _Word
    software: _Word
    rows: _Size
    columns: _Size
    photometric: Photometric


class DeviceProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which areas of a device's images are kept.

    Parameters
    ----------
    name
        Lower-case letters, digits and hyphens.
    version
        Raised with every change.
    device
        Whose images.
    rectangles
        Areas to keep as x0, y0, x1, y1 in pixels, upper bounds exclusive.

    Raises
    ------
    SettingsError
        If a rectangle does not fit the images, is too small to hold a picture, or they keep the whole screen.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
    version: Annotated[int, Meta(ge=1)]
    device: Device
    rectangles: Annotated[tuple[tuple[_Place, _Place, _Place, _Place], ...], Meta(min_length=1, max_length=16)]

    def __post_init__(self) -> None:
        rows, columns = self.device.rows, self.device.columns
        for number, (x0, y0, x1, y1) in enumerate(self.rectangles, 1):
            if not (x0 < x1 <= columns and y0 < y1 <= rows) or min(x1 - x0, y1 - y0) < _LEAST_SIDE:
                msg = (
                    f"Expected rectangles of at least {_LEAST_SIDE} pixels a side within {columns} x {rows} pixels, got "
                    f"another as number {number} of {self.name}; state x0, y0, x1, y1 with upper bounds exclusive"
                )
                raise SettingsError(msg)
            if (x0, y0, x1, y1) == (0, 0, columns, rows):
                msg = (
                    f"Expected rectangles that leave something out, got the whole image in {self.name}; declare a source clean "
                    "if it burns nothing in"
                )
                raise SettingsError(msg)

    @property
    def digest(self) -> str:
        """SHA-256 of the profile."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


class DeviceProfiles:
    """All profiles, at most one a device.

    Parameters
    ----------
    profiles
        The profiles.

    Raises
    ------
    SettingsError
        If two are of the same device.
    """

    def __init__(self, profiles: Iterable[DeviceProfile] = ()) -> None:
        self._by_device: dict[Device, DeviceProfile] = {}
        for profile in profiles:
            other = self._by_device.setdefault(profile.device, profile)
            if other is not profile:
                msg = f"Expected one profile a device, got {other.name} and {profile.name} of the same; remove one"
                raise SettingsError(msg)

    def __len__(self) -> int:
        return len(self._by_device)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what `encoded` was made of."""
        return cls(msgspec.json.decode(data, type=list[DeviceProfile]) if data else ())

    @cached_property
    def encoded(self) -> bytes:
        """All profiles as JSON, for another process; empty where there is none."""
        return msgspec.json.encode(list(self._by_device.values())) if self._by_device else b""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all profiles, in any order; empty where there is none."""
        if not self._by_device:
            return ""
        digests = sorted(profile.digest for profile in self._by_device.values())
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def match(self, dataset: Item, layout: PixelLayout) -> DeviceProfile | None:
        """Return the profile of the device that made an image, None if there is none."""
        device = read_device(dataset, layout) if self._by_device else None
        return self._by_device.get(device) if device else None


def parse_device_profile(text: str, place: str) -> DeviceProfile:
    """Return the profile that a TOML text states.

    Parameters
    ----------
    text
        TOML with the parameters of `DeviceProfile`, and those of `Device` in a table ``device``.
    place
        What errors call it, such as its file name.

    Raises
    ------
    SettingsError
        If it is not TOML, or not a valid profile.
    """
    try:
        return msgspec.convert(tomllib.loads(text), DeviceProfile)
    except tomllib.TOMLDecodeError as error:
        msg = f"Expected {place} to be TOML, got an error: {error}; mend the file"
        raise SettingsError(msg) from None
    except msgspec.ValidationError as error:
        msg = f"Expected {place} to be a device profile, got an error: {error}; mend the file, or propose it anew"
        raise SettingsError(msg) from None


def read_device(dataset: Item, layout: PixelLayout) -> Device | None:
    """Return the device that made an image, None if its header does not say so in plain words."""
    words = [_word(dataset, tag) for tag in DEVICE_TAGS]
    if not all(words):
        return None
    return Device(
        manufacturer=words[0],
        model=words[1],
        software=words[2],
        rows=layout.rows,
        columns=layout.columns,
        photometric=layout.photometric,
    )


def _word(dataset: Item, tag: int) -> str:
    value = dataset.values.get(tag)
    if value is None or value.vr not in ("", "UN", "LO") or not value.data.isascii():
        return ""
    return "\\".join(part.strip(" \0") for part in value.data.decode("ascii").split("\\"))
