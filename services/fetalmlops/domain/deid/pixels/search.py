"""The search for text in the pixels that are kept, while they are written: each frame is decoded once.

What stands still, as burned-in text does, stands out of the darkest and of the brightest that each pixel ever is. So a clip of
any length is searched in two pictures, which is also all that is held of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from fetalmlops.domain.contracts.refusals import RefusalDetails, TextPlace
from fetalmlops.domain.deid.faults import Refusal, refuse
from fetalmlops.domain.imaging.codecs import Decoded
from fetalmlops.domain.imaging.grey import to_grey, to_rgb
from fetalmlops.domain.imaging.layout import Photometric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.deid.pixels.regions import Rectangle
    from fetalmlops.domain.deid.pixels.text import TextCheck
    from fetalmlops.domain.imaging.decoding import DecodedFrame

__all__ = ["TextEvidence", "TextSearch"]

_BYTE = 8
_MOST_PLACES = 5
_MOST_BOXES = 256
_PROJECTIONS = ("darkest", "brightest")


class TextEvidence(NamedTuple):
    """What a search did: `passes` of the detector, texts that it `allowed`, and those that a person has `overruled`."""

    passes: int
    allowed: int
    overruled: int = 0


class TextSearch:
    """The search in one instance.

    Parameters
    ----------
    check
        Who looks, and what may be found.
    rectangles
        Where to look.
    colours
        RGB of each pixel value, [2 ** bits stored, 3], for PALETTE COLOR.
    overruled
        Whether a person has released the rectangles: what is found is counted only.
    """

    def __init__(
        self,
        check: TextCheck,
        rectangles: tuple[Rectangle, ...],
        colours: NDArray[np.uint8] | None = None,
        *,
        overruled: bool = False,
    ) -> None:
        self._check = check
        self._rectangles = rectangles
        self._colours = colours
        self._overruled = overruled
        self._pictures: tuple[NDArray[np.uint8], ...] = ()
        self._size = (0, 0)
        self._frames = 0

    @property
    def pictures(self) -> tuple[NDArray[np.uint8], ...]:
        """What is searched: the one frame, or the temporal minimum and maximum of all that were watched.

        Cut to the bounds of the rectangles and black between them; grey [rows, columns], or RGB [rows, columns, 3], ``uint8``.
        """
        return self._pictures

    def watch(self, frame: DecodedFrame) -> None:
        """Take a frame in.

        Colours stay colours: text may differ from what is around it in hue only.
        """
        rows, columns = frame.pixels.shape[:2]
        self._size = rows, columns
        self._frames += 1
        picture = _cut(_displayed(frame, self._colours), self._rectangles)
        if not self._pictures:
            self._pictures = (picture,)
        elif len(self._pictures) == 1:
            self._pictures = np.minimum(self._pictures[0], picture), np.maximum(self._pictures[0], picture)
        else:
            for extreme, known in zip((np.minimum, np.maximum), self._pictures, strict=True):
                extreme(known, picture, out=known)

    def finish(self) -> TextEvidence:
        """Search what was watched.

        Raises
        ------
        PermanentError
            If there is text that is not allowed (reason ``text-found``; message and details say where, never what).
        """
        found = [self._check.detector.find(picture) for picture in self._pictures]
        x0, y0, _, _ = _bounds(self._rectangles)
        wrong = [
            self._place(number, (a + x0, b + y0, c + x0, d + y0))
            for number, picture in enumerate(found)
            for (a, b, c, d), *_ in self._check.allowed.findings(picture)
        ]
        if wrong and not self._overruled:
            places = ", ".join(str(list(place.box)) for place in wrong[:_MOST_PLACES])
            refuse(
                f"Expected no text but measurements in the pixels that are kept, got other text at {places} (x0, y0, x1, y1); "
                "keep a smaller area by a profile of the device, or have the scanner burn nothing in",
                Refusal.TEXT_FOUND,
                self._details(wrong),
            )
        return TextEvidence(len(found), sum(map(len, found)) - len(wrong), len(wrong))

    def _place(self, picture: int, box: Rectangle) -> TextPlace:
        if self._frames == 1:
            return TextPlace(box=box, frame=1)
        return TextPlace(box=box, projection=_PROJECTIONS[picture])

    def _details(self, places: list[TextPlace]) -> RefusalDetails:
        rows, columns = self._size
        return RefusalDetails(
            rows=rows,
            columns=columns,
            frames=self._frames,
            # An area with text that is not listed is not to be shown to anybody who relies on the list.
            rectangles=list(self._rectangles) if len(places) <= _MOST_BOXES else [],
            texts=places[:_MOST_BOXES],
        )


def _displayed(frame: DecodedFrame, colours: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    decoded = Decoded(frame.pixels, frame.photometric, frame.bits)
    if frame.photometric is Photometric.PALETTE_COLOR and colours is not None:
        # A palette of greys needs one channel only.
        shown = colours[:, 0] if (colours == colours[:, :1]).all() else colours
        return np.take(shown, frame.pixels, axis=0, mode="clip")
    if frame.photometric.samples > 1:
        return to_rgb(decoded)
    grey = to_grey(decoded)
    if frame.bits != _BYTE:  # deep samples seldom use their whole range
        grey = np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX))
    return grey


def _cut(picture: NDArray[np.uint8], rectangles: tuple[Rectangle, ...]) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = _bounds(rectangles)
    cut = np.zeros((y1 - y0, x1 - x0, *picture.shape[2:]), np.uint8)
    for a, b, c, d in rectangles:
        cut[b - y0 : d - y0, a - x0 : c - x0] = picture[b:d, a:c]
    return cut


def _bounds(rectangles: tuple[Rectangle, ...]) -> Rectangle:
    x0, y0, x1, y1 = zip(*rectangles, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
