"""What a quarantine entry tells a person of an image that was refused for its pixels."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["Count", "Rectangle", "RefusalDetails", "TextPlace"]

Count = Annotated[int, Meta(ge=0)]
Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; upper bounds exclusive."""


class TextPlace(Struct, frozen=True, kw_only=True):
    """Where text was found in the pixels of an image: never what it says.

    ``box`` is [x0, y0, x1, y1] in pixels, upper bounds exclusive. ``frame`` is the DICOM frame number (from 1) of an image of
    one frame; a clip is looked at in its ``darkest`` and its ``brightest`` projection over all frames, which ``projection``
    says instead.
    """

    box: Rectangle
    frame: Annotated[int, Meta(ge=1)] | None = None
    projection: str = ""


class RefusalDetails(Struct, frozen=True, kw_only=True):
    """What a person needs to judge an image that was refused for its pixels; no value of the image.

    ``code`` says in a bounded word why nothing proves the pixels, such as ``no-regions`` or ``beyond-image``, or why a release
    does not hold. ``rows``, ``columns`` and ``frames`` are the size of the image, ``rectangles`` what was proven so far as
    [x0, y0, x1, y1], upper bounds exclusive, and ``texts`` where text was found in it.
    """

    code: str = ""
    rows: Count = 0
    columns: Count = 0
    frames: Count = 0
    rectangles: list[Rectangle] = []
    texts: list[TextPlace] = []
