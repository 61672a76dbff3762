"""A device profile proposed from images of one scanner: what changes between them is the picture, what does not is the screen.

A proposal is for a person to look at: text that differs between patients changes too, which is why what changes must be one
large area that stands apart from everything else.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple, NoReturn

import cv2
import numpy as np

from fetalmlops.domain.deid.pixels.devices import DEVICE_TAGS, Device, DeviceProfile, read_device
from fetalmlops.domain.deid.pixels.frames import read_first_frame
from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LEAST_IMAGES", "Proposal", "Screen", "propose", "propose_profile", "read_screen"]

LEAST_IMAGES = 3
"""Fewest images that a profile is proposed from."""

_CHANGE = 8  # grey levels: less is what lossy coding makes of the same screen
_GAP = 9  # pixels: the texture of a picture is denser, lines of text stand further from it
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.95
_SECOND_SHARE = 0.2


class Screen(NamedTuple):
    """One image: the device that made it, and its first frame in grey, ``uint8`` of [rows, columns]."""

    device: Device
    grey: NDArray[np.uint8]


def read_screen(file: IO[bytes]) -> Screen:
    """Read what a profile is proposed from.

    Parameters
    ----------
    file
        Seekable binary file in Part 10 format.

    Raises
    ------
    PermanentError
        If it cannot be read, or does not say which device made it (reason ``contract``).
    """
    frame = read_first_frame(file, dict.fromkeys(DEVICE_TAGS))
    device = read_device(frame.dataset, frame.layout)
    if device is None:
        _refuse("an image that states manufacturer, model and software versions", "one that does not", "use others")
    return Screen(device, frame.grey)


class Proposal(NamedTuple):
    """A proposed profile and its evidence.

    Parameters
    ----------
    profile
        The profile, of one rectangle.
    change
        By how many grey levels each pixel differs between the images, ``uint8`` of [rows, columns].
    images
        On how many images it rests.
    """

    profile: DeviceProfile
    change: NDArray[np.uint8]
    images: int

    @property
    def changing_outside(self) -> float:
        """Share of the pixels outside the rectangle that differ between the images: 0 to 1."""
        x0, y0, x1, y1 = self.profile.rectangles[0]
        changing = self.change > _CHANGE
        inside = int(np.count_nonzero(changing[y0:y1, x0:x1]))
        return (int(np.count_nonzero(changing)) - inside) / (changing.size - (x1 - x0) * (y1 - y0))


def propose_profile(screens: Sequence[Screen], name: str) -> DeviceProfile:
    """Return the profile that images of one device agree on; see `propose`."""
    return propose(screens, name).profile


def propose(screens: Sequence[Screen], name: str) -> Proposal:
    """Return the profile that images of one device agree on, and what speaks for it.

    Parameters
    ----------
    screens
        Images of different patients and views, at least `LEAST_IMAGES`.
    name
        Name of the profile.

    Raises
    ------
    ContractError
        If they are too few, of several devices, or do not agree on one area.
    SettingsError
        If the name is not one.
    """
    if len(screens) < LEAST_IMAGES:
        _refuse(f"at least {LEAST_IMAGES} images of different patients and views", f"{len(screens)}", "add some")
    device = screens[0].device
    differing = [field for field in device.__struct_fields__ if len({getattr(s.device, field) for s in screens}) > 1]
    if differing:
        _refuse("images of one device", f"images that differ in {', '.join(differing)}", "propose one profile for each")
    stack = np.stack([screen.grey for screen in screens])
    change = stack.max(axis=0) - stack.min(axis=0)
    profile = DeviceProfile(
        name=name, version=1, device=device, rectangles=(_picture((change > _CHANGE).astype(np.uint8)),)
    )
    return Proposal(profile, change, len(screens))


def _picture(changing: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return the bounds of the one large area that changes."""
    closed = cv2.morphologyEx(changing, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((2 * _GAP + 1, 2 * _GAP + 1), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(opened)
    areas = sorted(range(1, count), key=lambda label: -int(stats[label, cv2.CC_STAT_AREA]))
    if not areas:
        _refuse("an area that changes from image to image", "none", "use images of different views")
    first = stats[areas[0]]
    x0, y0, width, height = (int(value) for value in first[:4])
    share = width * height / changing.size
    if not _LEAST_SHARE <= share <= _MOST_SHARE:
        _refuse(
            f"a picture of {_LEAST_SHARE:.0%} to {_MOST_SHARE:.0%} of the screen",
            f"{share:.0%} that changes",
            "use images of one screen layout, or write the profile by hand",
        )
    if len(areas) > 1 and stats[areas[1], cv2.CC_STAT_AREA] > _SECOND_SHARE * first[cv2.CC_STAT_AREA]:
        _refuse("one area that changes from image to image", "several large ones", "write the profile by hand")
    return x0, y0, x0 + width, y0 + height


def _refuse(expected: str, got: str, remedy: str) -> NoReturn:
    msg = f"Expected {expected}, got {got}; {remedy}"
    raise ContractError(msg)
