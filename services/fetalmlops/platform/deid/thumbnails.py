"""Thumbnails of instances in the phi zone, drawn in a child under limits; nothing is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from msgspec import Struct

from fetalmlops.domain.deid.pixels.frames import read_frames
from fetalmlops.domain.deid.pixels.thumbnail import draw_thumbnail
from fetalmlops.platform.sandbox.parent import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fetalmlops.domain.contracts.events import ObjectRef
    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.platform.objects import ObjectStore
    from fetalmlops.platform.settings import Settings

__all__ = ["Thumbnail", "draw", "make_thumbnail"]

_TIMEOUT_S = 120.0


class Thumbnail(Struct, frozen=True, kw_only=True):
    """Size of an image in pixels, and its thumbnail as PNG."""

    rows: int
    columns: int
    png: bytes


async def make_thumbnail(
    settings: Settings,
    objects: ObjectStore,
    ref: ObjectRef,
    kept: Sequence[Rectangle] = (),
    found: Sequence[Rectangle] = (),
    *,
    blank: bool = False,
) -> Thumbnail:
    """Draw the thumbnail of an instance: first, middle and last frame, as `draw_thumbnail` masks them.

    Parameters
    ----------
    settings
        For the child's limit of memory.
    objects
        Store of the phi zone.
    ref
        The instance.
    kept, found, blank
        As in `draw_thumbnail`.

    Raises
    ------
    PermanentError
        If the object is not what was cited, is no image, or cannot be decoded.
    DeadlyError
        If it kills the child.
    ObjectMissingError
        If it is not there.
    TransientError
        If the store does not answer, or decoding takes too long.
    """
    children = Sandbox(
        "fetalmlops.platform.deid.thumbnails:draw",
        Thumbnail,
        initializer="fetalmlops.platform.dicom.decoding:configure",
        memory_bytes=settings.normalizer.child_memory_bytes,
        timeout=_TIMEOUT_S,
    )
    async with objects.lend(ref) as place, children as sandbox:
        return await sandbox.call(str(place), list(kept), list(found), blank)


def draw(place: str, kept: list[list[int]], found: list[list[int]], blank: bool) -> Thumbnail:
    """Draw the thumbnail of a Part 10 file: what the child does."""
    with Path(place).open("rb") as file:
        frames = read_frames(file)
    rows, columns = frames[0].grey.shape
    picture = draw_thumbnail(frames, _areas(kept), _areas(found), blank=blank)
    _, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return Thumbnail(rows=rows, columns=columns, png=png.tobytes())


def _areas(areas: list[list[int]]) -> list[Any]:
    return [tuple(area) for area in areas]
