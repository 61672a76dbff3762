"""The steps between cropping and shrinking, where a pipeline asks for them: sector mask, colour and graphics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from fetalmlops.domain.imaging.cleaning.colour import find_colour, without_colour
from fetalmlops.domain.imaging.cleaning.overlays import fill, find_overlays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.imaging.cleaning.colour import ColourFlow
    from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval

__all__ = ["Cleaned", "Cleaner"]


class Cleaned(NamedTuple):
    """One cleaned frame.

    Parameters
    ----------
    grey
        Grey levels, ``uint8`` of [rows, columns].
    overlay_share, colour_share
        Shares of the sector, 0 to 1, that were filled as graphics and that show flow.
    """

    grey: NDArray[np.uint8]
    overlay_share: float = 0.0
    colour_share: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Cleaner:
    """The steps of one instance; a step that is None is left out.

    Parameters
    ----------
    mask
        The sector, [rows, columns] of the crop; beside it everything becomes black. None for all of it, untouched.
    colour, overlays
        The steps, in the order in which they run.
    """

    mask: NDArray[np.bool_] | None
    colour: ColourFlow | None = None
    overlays: OverlayRemoval | None = None

    @cached_property
    def _area(self) -> int:
        return 0 if self.mask is None else int(np.count_nonzero(self.mask))

    def clean(self, grey: NDArray[np.uint8], rgb: NDArray[np.uint8] | None = None) -> Cleaned:
        """Return one cropped frame cleaned.

        Parameters
        ----------
        grey
            Its grey levels, ``uint8`` of [rows, columns].
        rgb
            The same in colour, [rows, columns, 3], where it has any.
        """
        mask = np.ones(grey.shape, np.bool_) if self.mask is None else self.mask
        area = self._area or mask.size
        graphics: NDArray[np.bool_] | None = None
        overlay_share = colour_share = 0.0
        if self.colour and rgb is not None:
            flow, graphics = find_colour(rgb, self.colour)
            flow &= mask
            colour_share = np.count_nonzero(flow) / area
            if colour_share >= self.colour.least_share:
                grey = without_colour(grey, rgb, flow)
        if self.overlays:
            drawn = find_overlays(grey, self.overlays) & mask
            if graphics is not None:
                drawn |= graphics & mask
            grey = fill(grey, drawn, self.overlays)
            overlay_share = np.count_nonzero(drawn) / area
        if self.mask is not None:
            grey = np.asarray(cv2.bitwise_and(grey, grey, mask=mask.view(np.uint8)))
        return Cleaned(grey, overlay_share, colour_share)
