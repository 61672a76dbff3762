"""A look at the pixels of one scanner's sample: what would be kept, masked, and a device profile where nothing proves them."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np
import tomli_w
from msgspec import Struct, to_builtins

from fetalmlops.domain.deid.pixels.devices import DEVICE_TAGS
from fetalmlops.domain.deid.pixels.frames import read_first_frame
from fetalmlops.domain.deid.pixels.preview import masked_preview, masked_text
from fetalmlops.domain.deid.pixels.proof import prove_area
from fetalmlops.domain.deid.pixels.proposals import propose, read_screen
from fetalmlops.domain.deid.rules.attributes import REGION, REGIONS_TAG, SOP_CLASSES, Kind
from fetalmlops.domain.errors import ContractError, PermanentError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
    from fetalmlops.domain.deid.pixels.proposals import Screen
    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.domain.deid.pixels.text import TextDetector
    from fetalmlops.domain.deid.rules.profile import RegionPolicy

__all__ = ["Preview", "ProposedProfile", "look_at_proven", "look_at_unproven"]

_SOP_CLASS = 0x0008_0016
_WANTED = {
    **dict.fromkeys((*DEVICE_TAGS, _SOP_CLASS)),
    REGIONS_TAG: dict.fromkeys(rule.tag for rule in REGION),
}


class Preview(Struct, frozen=True, kw_only=True):
    """A masked picture.

    Parameters
    ----------
    jpeg
        The picture.
    rectangles
        What it shows of the image: x0, y0, x1, y1 in the image's pixels, upper bounds exclusive.
    hidden
        Share of the image that is masked, 0 to 1.
    texts
        Places with text that were filled, None where none was looked for.
    """

    jpeg: bytes
    rectangles: list[tuple[int, int, int, int]]
    hidden: float
    texts: int | None = None


class ProposedProfile(Struct, frozen=True, kw_only=True):
    """A device profile that a sample speaks for.

    Parameters
    ----------
    toml
        The profile, as its file would be.
    images
        On how many images it rests.
    changing_outside
        Share of the pixels outside its rectangle that differ between the images, 0 to 1.
    preview
        One of the images under its mask.
    change
        Under the same mask: how much each pixel differs between the images.
    """

    toml: str
    images: int
    changing_outside: float
    preview: Preview
    change: Preview


def look_at_proven(
    file: IO[bytes], policy: RegionPolicy, devices: DeviceProfiles, detector: TextDetector | None = None
) -> Preview:
    """Return a masked picture of an image whose pixels are proven.

    Parameters
    ----------
    file
        Seekable binary file in Part 10 format.
    policy, devices
        What proves pixels.
    detector
        Who looks for text that is to be filled; None leaves it.

    Raises
    ------
    PermanentError
        If it cannot be read, or nothing proves its pixels.
    """
    frame = read_first_frame(file, _WANTED)
    sop_class = frame.dataset.values.get(_SOP_CLASS)
    uid = sop_class.data.decode("ascii", "replace").strip(" \0") if sop_class else ""
    kind = SOP_CLASSES.get(uid, Kind.CAPTURE)
    proof = prove_area(frame.dataset, kind, frame.layout, policy, devices, source_clean=False)
    return _preview(frame.grey, proof.rectangles, detector)


def look_at_unproven(files: Iterable[IO[bytes]], name: str, detector: TextDetector | None = None) -> ProposedProfile:
    """Return the profile that images of one device speak for.

    Parameters
    ----------
    files
        Seekable binary files in Part 10 format; those that cannot be read are passed over.
    name
        Name of the profile.
    detector
        Who looks for text that is to be filled in the pictures; None leaves it.

    Raises
    ------
    ContractError
        If they are too few, or do not agree on one area.
    """
    screens = list(_screens(files))
    try:
        proposal = propose(screens, name)
    except SettingsError as error:
        raise ContractError(str(error)) from None
    rectangles = proposal.profile.rectangles
    return ProposedProfile(
        toml=tomli_w.dumps(to_builtins(proposal.profile)),
        images=proposal.images,
        changing_outside=proposal.changing_outside,
        preview=_preview(screens[0].grey, rectangles, detector),
        change=_preview(proposal.change, rectangles, detector),
    )


def _screens(files: Iterable[IO[bytes]]) -> Iterable[Screen]:
    for file in files:
        try:
            yield read_screen(file)
        except PermanentError:
            continue


def _preview(picture: NDArray[np.uint8], rectangles: tuple[Rectangle, ...], detector: TextDetector | None) -> Preview:
    filled = masked_text(picture, rectangles, detector) if detector else ()
    shown = np.zeros(picture.shape, bool)
    for x0, y0, x1, y1 in rectangles:
        shown[y0:y1, x0:x1] = True
    return Preview(
        jpeg=masked_preview(picture, rectangles, filled),
        rectangles=list(rectangles),
        hidden=1 - float(shown.mean()),
        texts=len(filled) if detector else None,
    )
