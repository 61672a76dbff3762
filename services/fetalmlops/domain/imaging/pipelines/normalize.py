"""Normalisation: from the stored frames of any scanner to small grey frames that every model can start from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property, reduce
from statistics import median
from typing import TYPE_CHECKING, Protocol

import cv2
import msgspec
import numpy as np

from fetalmlops.domain.contracts.planes import FrameMode, SectorShape
from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.imaging.cleaning.cleaner import Cleaner
from fetalmlops.domain.imaging.cleaning.colour import is_coloured
from fetalmlops.domain.imaging.frames import MAX_FRAMES, MAX_SIDE
from fetalmlops.domain.imaging.geometry.regions import Box, Geometry, Spacing, find_content
from fetalmlops.domain.imaging.geometry.resize import fitted, shrink
from fetalmlops.domain.imaging.geometry.sector import find_sector
from fetalmlops.domain.imaging.pipelines.harmonise import harmonise
from fetalmlops.domain.imaging.pipelines.quality import measure_quality
from fetalmlops.domain.imaging.pipelines.sampling import Spread, sample
from fetalmlops.domain.imaging.pipelines.screens import Screen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import Quality
    from fetalmlops.domain.imaging.cleaning.colour import ColourFlow
    from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval
    from fetalmlops.domain.imaging.geometry.sector import Sector, SectorSearch
    from fetalmlops.domain.imaging.pipelines.harmonise import Harmonisation

__all__ = ["CODE_VERSION", "GreyFrames", "NormalizedFrames", "Pipeline"]

_WHITE = 255
_MOST_PART = 0.2

_ADDED = {
    "version": 1,
    "layer_part": 0.2,
    "spread": "ends",
    "mask": None,
    "colour": None,
    "overlays": None,
    "harmonisation": None,
}

CODE_VERSION = 1
"""Raised with every change of this package that changes the frames it makes from the same input and parameters."""


class GreyFrames(Protocol):
    """What is normalised: frames that can be had in any order, such as an `Image`."""

    @property
    def total_frames(self) -> int:
        """Number of frames."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""

    @property
    def geometry(self) -> Geometry:
        """What is known of the frames' geometry."""

    def grey(self, number: int) -> NDArray[np.uint8]:
        """Return the grey levels of a frame, [rows, columns]; frames are numbered from 1."""

    def colour(self, number: int) -> NDArray[np.uint8] | None:
        """Return a frame in colour, ``uint8`` RGB of [rows, columns, 3]; None where frames are grey."""


@dataclass(frozen=True, eq=False)
class NormalizedFrames:
    """The frames of one instance, ready for any model.

    Parameters
    ----------
    frames
        Grey levels, ``uint8`` of [frames, rows, columns].
    frame_numbers
        DICOM numbers (from 1) of these frames, increasing.
    total_frames
        Number of frames of the instance.
    spacing
        Size of a pixel of these frames, [row, column] in mm, None if unknown.
    quality
        Quality figures.
    sector
        Shape of the sector within the crop, in stored pixels; None where the pipeline does not search it.
    mode
        What the frames show; unknown where neither regions nor the pipeline tell.
    """

    frames: NDArray[np.uint8]
    frame_numbers: tuple[int, ...]
    total_frames: int
    spacing: Spacing | None
    quality: Quality
    sector: Sector | None = None
    mode: FrameMode = FrameMode.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The normalisation and its parameters; the same for serving and for training, and independent of any model.

    Frames are sampled evenly, cropped to the sector and shrunk. The sector is the 2-D tissue region of the dataset, else the
    area that is not black in the first, middle and last sampled frame. Overlay planes are never drawn. The steps that are
    asked for run in the order of their parameters, all but the last between cropping and shrinking; by default there are
    none, and marks that the scanner has burned into the sector, such as calipers, stay as they are.

    Parameters
    ----------
    max_frames
        Most frames of one instance, 1 to 64.
    max_side
        Longest side of a frame in pixels, 1 to 512; smaller frames are not enlarged.
    black_level
        Highest grey level, 0 to 254, that counts as black where the sector is searched for.
    layer_part
        Least share, 0 to 0.2, of the largest area that one above or below it, or cut off by the screen, must have to count.
    spread
        How sampled frames lie in a longer cine.
    mask
        Search the sector's shape and make everything beside it black.
    colour
        Find colour Doppler and take grey levels beneath it.
    overlays
        Find graphics and fill them.
    harmonisation
        Bring the sector's grey levels to one distribution.
    version
        Raised with every change of a step's code that changes the frames of this pipeline and leaves others as they are.

    Raises
    ------
    SettingsError
        If a parameter is out of its range.

    Examples
    --------
    >>> result = Pipeline().run_array(np.full((600, 800), 90, np.uint8), spacing=(0.1, 0.1))
    >>> result.frames.shape, result.spacing
    ((1, 384, 512), (0.15625, 0.15625))
    """

    max_frames: int = 64
    max_side: int = 512
    black_level: int = 8
    layer_part: float = 0.2
    spread: Spread = Spread.ENDS
    mask: SectorSearch | None = None
    colour: ColourFlow | None = None
    overlays: OverlayRemoval | None = None
    harmonisation: Harmonisation | None = None
    version: int = 1

    def __post_init__(self) -> None:
        sizes = 1 <= self.max_frames <= MAX_FRAMES and 1 <= self.max_side <= MAX_SIDE
        if not (sizes and 0 <= self.black_level < _WHITE and 0 <= self.layer_part <= _MOST_PART):
            msg = (
                f"Expected at most {MAX_FRAMES} frames of at most {MAX_SIDE} pixels, a black level below 255 and a part up to "
                f"{_MOST_PART}, got others"
            )
            raise SettingsError(msg)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the parameters and `CODE_VERSION`: equal when, and only when, equal input gives equal frames."""
        # Steps that are not asked for are left out, so that adding one changes the digest of no pipeline without it.
        asked = {name: value for name, value in asdict(self).items() if name not in _ADDED or value != _ADDED[name]}
        canonical = msgspec.json.encode({"code": CODE_VERSION, **asked}, order="deterministic")
        return hashlib.sha256(canonical).hexdigest()

    def run(self, image: GreyFrames, *, scanner: str = "") -> NormalizedFrames:
        """Normalise the frames of an instance, one at a time.

        Parameters
        ----------
        image
            The frames.
        scanner
            Which scanner made them, for a harmonisation that knows it; empty if unknown.

        Raises
        ------
        PermanentError
            If a frame cannot be decoded.
        """
        numbers = sample(image.total_frames, self.max_frames, self.spread)
        box, searched = self._find_sector(image, numbers)
        if self.mask and not searched:
            searched = {number: image.grey(number) for number in _probes(numbers)}
        cropped = [box.crop(frame) for frame in searched.values()]
        sector = find_sector(reduce(cv2.max, cropped), self.mask) if self.mask else None
        if sector and sector.shape is SectorShape.RECTANGLE and box == Box(0, 0, *image.shape):
            # A screen that is filled to its edges may as well be a part of a fan.
            sector = replace(sector, shape=SectorShape.NONE)
        mask = sector.mask if sector else None
        cleaner = Cleaner(mask=mask, colour=self.colour, overlays=self.overlays) if self._cleans else None
        size = fitted(box.bottom - box.top, box.right - box.left, self.max_side)
        coloured = self._is_coloured(image, numbers, box)
        within = sector.scaled(*size).mask if sector else np.ones(size, np.bool_)
        frames = np.empty((len(numbers), *size), np.uint8)
        shares = np.zeros((len(numbers), 2))
        for index, number in enumerate(numbers):
            grey = box.crop(searched.pop(number) if number in searched else image.grey(number))
            if cleaner:
                rgb = image.colour(number) if coloured else None
                grey, *shares[index] = cleaner.clean(grey, None if rgb is None else box.crop(rgb))
            frame = shrink(grey, *size)
            # Last, because shrinking narrows the distribution of a large screen more than that of a small one.
            frames[index] = harmonise(frame, within, self.harmonisation, scanner) if self.harmonisation else frame
        rows, columns = image.shape
        area = box.area if mask is None else int(np.count_nonzero(mask))
        overlay_share, colour_share = (median(column) for column in shares.T.tolist())
        return NormalizedFrames(
            frames=frames,
            frame_numbers=numbers,
            total_frames=image.total_frames,
            spacing=_scale(image.geometry.spacing, box, size),
            quality=measure_quality(
                frames,
                sector_share=area / (rows * columns),
                overlay_share=overlay_share,
                colour_share=colour_share,
                within=within if sector else None,
            ),
            sector=sector,
            mode=image.geometry.mode or self._mode(colour_share),
        )

    def run_array(
        self, pixels: NDArray[np.uint8], *, spacing: Spacing | None = None, sector: Box | None = None, scanner: str = ""
    ) -> NormalizedFrames:
        """Normalise one frame that is an array already, such as a decoded PNG of a data set.

        Parameters
        ----------
        pixels
            ``uint8``, grey of [rows, columns] or RGB of [rows, columns, 3].
        spacing
            Size of a pixel, [row, column] in mm, None if unknown.
        sector
            Where the tissue lies, None to search it.
        scanner
            As of `run`.

        Raises
        ------
        ContractError
            If the array has another type or shape.
        """
        if pixels.dtype != np.uint8 or pixels.size == 0 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
            msg = f"Expected uint8 of [rows, columns] or [rows, columns, 3], got {pixels.dtype} of {pixels.ndim} dimensions"
            raise ContractError(msg)
        rgb = None if pixels.ndim == 2 else pixels
        grey = pixels if rgb is None else np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        return self.run(Screen(grey, rgb, Geometry(sector, spacing)), scanner=scanner)

    def _is_coloured(self, image: GreyFrames, numbers: tuple[int, ...], box: Box) -> bool:
        """Return whether frames must be decoded in colour: what is coloured in a cine is so in one of three frames."""
        if self.colour is None:
            return False
        probes = (image.colour(number) for number in sorted(_probes(numbers)))
        return any(is_coloured(box.crop(rgb), self.colour) for rgb in probes if rgb is not None)

    @property
    def _cleans(self) -> bool:
        return any((self.mask, self.colour, self.overlays))

    def _mode(self, colour_share: float) -> FrameMode:
        if self.colour is None:
            return FrameMode.UNKNOWN
        return FrameMode.COLOUR if colour_share >= self.colour.least_share else FrameMode.B_MODE

    def _find_sector(self, image: GreyFrames, numbers: tuple[int, ...]) -> tuple[Box, dict[int, NDArray[np.uint8]]]:
        """Return the sector, and the frames that were decoded to find it."""
        if image.geometry.sector:
            return image.geometry.sector, {}
        searched = {number: image.grey(number) for number in _probes(numbers)}
        return find_content(list(searched.values()), self.black_level, self.layer_part), searched


def _probes(numbers: tuple[int, ...]) -> set[int]:
    """Return the frames in which the sector is searched for."""
    return {numbers[0], numbers[len(numbers) // 2], numbers[-1]}


def _scale(spacing: Spacing | None, sector: Box, size: tuple[int, int]) -> Spacing | None:
    if spacing is None:
        return None
    return spacing[0] * (sector.bottom - sector.top) / size[0], spacing[1] * (sector.right - sector.left) / size[1]
