"""Which pixels the ultrasound regions prove (PS3.3 C.8.5.5): validated rectangles, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fetalmlops.domain.deid.checks import Kept, check_value
from fetalmlops.domain.deid.rules import REGION, REGIONS_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.deid.profile import RegionPolicy
    from fetalmlops.domain.deid.reader import Item
    from fetalmlops.domain.deid.writer import Attributes

__all__ = ["Rectangle", "Regions", "validate_regions"]

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; upper bounds exclusive."""

_FORMAT, _DATA_TYPE, _FLAGS = 0x0018_6012, 0x0018_6014, 0x0018_6016
_BOUNDS = (0x0018_6018, 0x0018_601A, 0x0018_601C, 0x0018_601E)


@dataclass(frozen=True)
class Regions:
    """Validated regions: the areas that may be shown and the attributes that describe them."""

    rectangles: tuple[Rectangle, ...] = ()
    items: tuple[Attributes, ...] = ()

    @property
    def attributes(self) -> Attributes:
        """The Sequence of Ultrasound Regions, if any region is valid."""
        return {REGIONS_TAG: ("SQ", list(self.items))} if self.items else {}


def validate_regions(items: Sequence[Item], rows: int, columns: int, policy: RegionPolicy) -> Regions:
    """Return the regions that prove their pixels, or none at all.

    A region whose place cannot be read, that reaches beyond the image (as in images scaled after acquisition) or that is too
    small discredits all regions of its image. Upper bounds are inclusive in DICOM and exclusive in the result.

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
        return Regions()
    rectangles: list[Rectangle] = []
    kept_items: list[Attributes] = []
    for item in items:
        kept = _kept(item)
        rectangle = _rectangle(kept, rows, columns)
        if rectangle is None:
            return Regions()
        if int(kept[_FORMAT].numbers[0]) in policy.formats:
            rectangles.append(rectangle)
            kept_items.append({rule.tag: (rule.vr, kept[rule.tag].data) for rule in REGION if rule.tag in kept})
    if any(min(x1 - x0, y1 - y0) < policy.least_side for x0, y0, x1, y1 in rectangles):
        return Regions()
    share = _covered(rectangles, rows, columns) / (rows * columns)
    if not policy.least_share <= share <= policy.most_share:
        return Regions()
    return Regions(tuple(rectangles), tuple(kept_items))


def _kept(item: Item) -> dict[int, Kept]:
    checked = {
        rule.tag: check_value(rule.vr, rule.check, item.values[rule.tag]) for rule in REGION if rule.tag in item.values
    }
    return {tag: kept for tag, kept in checked.items() if kept is not None}


def _rectangle(kept: dict[int, Kept], rows: int, columns: int) -> Rectangle | None:
    if not all(tag in kept for tag in (_FORMAT, _DATA_TYPE, *_BOUNDS)):
        return None
    x0, y0, x1, y1 = (int(kept[tag].numbers[0]) for tag in _BOUNDS)
    if not (x0 <= x1 < columns and y0 <= y1 < rows):
        return None
    return x0, y0, x1 + 1, y1 + 1


def _covered(rectangles: Sequence[Rectangle], rows: int, columns: int) -> int:
    covered = np.zeros((rows, columns), bool)
    for x0, y0, x1, y1 in rectangles:
        covered[y0:y1, x0:x1] = True
    return int(np.count_nonzero(covered))
