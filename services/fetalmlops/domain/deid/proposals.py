"""A device profile proposed from images of one scanner: what changes between them is the picture, what does not is the screen.

A proposal is for a person to look at: text that differs between patients changes too, which is why what changes must be one
large area that stands apart from everything else.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, NamedTuple, NoReturn

import cv2
import numpy as np

from fetalmlops.domain.deid.checks import Context
from fetalmlops.domain.deid.devices import DEVICE_TAGS, Device, DeviceProfile, read_device
from fetalmlops.domain.deid.header import keep
from fetalmlops.domain.deid.palette import read_palette
from fetalmlops.domain.deid.pixels import pixel_layout
from fetalmlops.domain.deid.reader import read_header
from fetalmlops.domain.deid.rules import IMAGE, PALETTE
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.codecs import Decoded
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.faults import guarded
from fetalmlops.domain.imaging.grey import Palette, to_grey
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.imaging.source import FrameSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LEAST_IMAGES", "Screen", "propose_profile", "read_screen"]

LEAST_IMAGES = 3
"""Fewest images that a profile is proposed from."""

_WANTED = dict.fromkeys((*(rule.tag for rule in IMAGE), *DEVICE_TAGS, *PALETTE))
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
    with guarded("Expected a DICOM image, got something else"):
        header = read_header(file, _WANTED)
        layout = pixel_layout(keep(header.dataset, IMAGE, Context()))
        device = read_device(header.dataset, layout)
        if device is None or header.pixels is None:
            _refuse("an image that states manufacturer, model and software versions", "one that does not", "use others")
        palette = None
        if layout.photometric is Photometric.PALETTE_COLOR:
            palette = Palette(read_palette(header.dataset, layout.bits_stored).grey)
        source = FrameSource(header.file, header.transfer_syntax_uid, layout, header.pixels)
        frame = next(iter_frames(source, [1]))
        return Screen(device, to_grey(Decoded(frame.pixels, frame.photometric, frame.bits), palette))


def propose_profile(screens: Sequence[Screen], name: str) -> DeviceProfile:
    """Return the profile that images of one device agree on.

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
    changing = (stack.max(axis=0).astype(int) - stack.min(axis=0) > _CHANGE).astype(np.uint8)
    return DeviceProfile(name=name, version=1, device=device, rectangles=(_picture(changing),))


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
