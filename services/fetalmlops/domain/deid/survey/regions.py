"""What the ultrasound regions of an image are worth: valid, or by what they fail."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.pixels.regions import RegionFlaw, validate_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.rules.profile import RegionPolicy

__all__ = ["RegionState", "judge_regions"]


class RegionState(StrEnum):
    """What regions are worth as a proof."""

    VALID = "valid"
    ABSENT = "absent"
    MANY = "too many"
    UNREADABLE = "without a readable place"
    BEYOND = "beyond the image"
    NO_PICTURE = "none of a picture"
    SMALL = "too small"
    LITTLE = "too little of the image"
    WHOLE = "nearly the whole image"
    NONE = "no image"


_BY_FLAW = {
    RegionFlaw.NONE: RegionState.VALID,
    RegionFlaw.NO_REGIONS: RegionState.ABSENT,
    RegionFlaw.TOO_MANY: RegionState.MANY,
    RegionFlaw.UNREADABLE: RegionState.UNREADABLE,
    RegionFlaw.BEYOND_IMAGE: RegionState.BEYOND,
    RegionFlaw.NO_PICTURE: RegionState.NO_PICTURE,
    RegionFlaw.TOO_SMALL: RegionState.SMALL,
    RegionFlaw.TOO_LITTLE: RegionState.LITTLE,
    RegionFlaw.TOO_MUCH: RegionState.WHOLE,
}


def judge_regions(items: Sequence[Item], rows: int, columns: int, policy: RegionPolicy) -> RegionState:
    """Return what the regions of an image are worth, as `validate_regions` finds it.

    Parameters
    ----------
    items
        Items of the Sequence of Ultrasound Regions, as read.
    rows, columns
        Size of the image in pixels.
    policy
        What counts as proof.
    """
    return _BY_FLAW[validate_regions(items, rows, columns, policy).flaw]
