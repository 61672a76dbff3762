"""Which pixels the ultrasound regions prove (PS3.3 C.8.5.5): validated rectangles, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.deid.rules.attributes import REGION, REGIONS_TAG
from fetalmlops.domain.deid.rules.checks import Kept, check_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.rules.profile import RegionPolicy

__all__ = ["Rectangle", "RegionFlaw", "Regions", "validate_regions"]

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; upper bounds exclusive."""

_FORMAT, _DATA_TYPE, _FLAGS = 0x0018_6012, 0x0018_6014, 0x0018_6016
_BOUNDS = (0x0018_6018, 0x0018_601A, 0x0018_601C, 0x0018_601E)


class RegionFlaw(StrEnum):
    """Why regions prove nothing."""

    NONE = ""
    NO_REGIONS = "no-regions"
    TOO_MANY = "too-many-regions"
    UNREADABLE = "region-unreadable"
    BEYOND_IMAGE = "beyond-image"
    NO_PICTURE = "no-region-of-a-picture"
    TOO_SMALL = "region-too-small"
    TOO_LITTLE = "area-too-small"
    TOO_MUCH = "area-too-large"


@dataclass(frozen=True)
class Regions:
    """Validated regions: the areas that may be shown and the attributes that describe them; or the flaw of all."""

    rectangles: tuple[Rectangle, ...] = ()
    items: tuple[Attributes, ...] = ()
    flaw: RegionFlaw = RegionFlaw.NONE

    @property
    def attributes(self) -> Attributes:
        """The Sequence of Ultrasound Regions, if any region is valid."""
        return {REGIONS_TAG: ("SQ", list(self.items))} if self.items else {}


def validate_regions(items: Sequence[Item], rows: int, columns: int, policy: RegionPolicy) -> Regions:
    """Return the regions that prove their pixels, or none at all.

    A region whose place cannot be read, that reaches beyond the image (as in images scaled after acquisition) or that is too
    small discredits all regions of its image. Upper bounds are inclusive in DICOM and exclusive in the result. Some scanners
    write exclusive ones: a bound that is the number of columns or rows, one pixel beyond the last, is brought back to it.

    Parameters
    ----------
    items
        Items of the Sequence of Ultrasound Regions, as read.
    rows, columns
        Size of the image in pixels.
    policy
        What counts as proof.
    """
    if not 0 < len(items) <= policy.most:
        return Regions(flaw=RegionFlaw.TOO_MANY if items else RegionFlaw.NO_REGIONS)
    rectangles: list[Rectangle] = []
    kept_items: list[Attributes] = []
    for item in items:
        kept = _kept(item)
        rectangle = _rectangle(kept, rows, columns)
        if isinstance(rectangle, RegionFlaw):
            return Regions(flaw=rectangle)
        if int(kept[_FORMAT].numbers[0]) in policy.formats:
            rectangles.append(rectangle)
            attributes = {rule.tag: (rule.vr, kept[rule.tag].data) for rule in REGION if rule.tag in kept}
            kept_items.append(attributes | _last_pixel(rectangle))
    if not rectangles:
        return Regions(flaw=RegionFlaw.NO_PICTURE)
    if any(min(x1 - x0, y1 - y0) < policy.least_side for x0, y0, x1, y1 in rectangles):
        return Regions(flaw=RegionFlaw.TOO_SMALL)
    share = _covered(rectangles, rows, columns) / (rows * columns)
    if not policy.least_share <= share <= policy.most_share:
        return Regions(flaw=RegionFlaw.TOO_LITTLE if share < policy.least_share else RegionFlaw.TOO_MUCH)
    return Regions(tuple(rectangles), tuple(kept_items))


def _kept(item: Item) -> dict[int, Kept]:
    checked = {
        rule.tag: check_value(rule.vr, rule.check, item.values[rule.tag]) for rule in REGION if rule.tag in item.values
    }
    return {tag: kept for tag, kept in checked.items() if kept is not None}


def _rectangle(kept: dict[int, Kept], rows: int, columns: int) -> Rectangle | RegionFlaw:
    if not all(tag in kept for tag in (_FORMAT, _DATA_TYPE, *_BOUNDS)):
        return RegionFlaw.UNREADABLE
    x0, y0, x1, y1 = (int(kept[tag].numbers[0]) for tag in _BOUNDS)
    if not (x0 <= x1 <= columns and y0 <= y1 <= rows and x0 < columns and y0 < rows):
        return RegionFlaw.BEYOND_IMAGE
    return x0, y0, min(x1 + 1, columns), min(y1 + 1, rows)


def _last_pixel(rectangle: Rectangle) -> Attributes:
    """Return the upper bounds as DICOM has them."""
    return {
        tag: ("UL", (bound - 1).to_bytes(4, "little")) for tag, bound in zip(_BOUNDS[2:], rectangle[2:], strict=True)
    }


def _covered(rectangles: Sequence[Rectangle], rows: int, columns: int) -> int:
    covered = np.zeros((rows, columns), bool)
    for x0, y0, x1, y1 in rectangles:
        covered[y0:y1, x0:x1] = True
    return int(np.count_nonzero(covered))
