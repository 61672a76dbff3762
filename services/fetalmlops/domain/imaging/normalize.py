"""Normalisation: from the stored frames of any scanner to small grey frames that every model can start from."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import cv2
import msgspec
import numpy as np

from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.imaging.frames import MAX_FRAMES, MAX_SIDE
from fetalmlops.domain.imaging.geometry import Box, Geometry, Spacing, find_content
from fetalmlops.domain.imaging.quality import measure_quality
from fetalmlops.domain.imaging.resize import fitted, shrink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fetalmlops.domain.contracts.events import Quality

__all__ = ["CODE_VERSION", "GreyFrames", "NormalizedFrames", "Pipeline"]

_WHITE = 255

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
    """

    frames: NDArray[np.uint8]
    frame_numbers: tuple[int, ...]
    total_frames: int
    spacing: Spacing | None
    quality: Quality


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The normalisation and its parameters; the same for serving and for training, and independent of any model.

    Frames are sampled evenly, cropped to the sector and shrunk. The sector is the 2-D tissue region of the dataset, else the
    area that is not black in the first, middle and last sampled frame. Overlay planes are never drawn. Marks that the scanner
    has burned into the sector, such as calipers, stay as they are: where a later version removes them, it does so between
    cropping and shrinking and reports their share as ``overlay_share``.

    Parameters
    ----------
    max_frames
        Most frames of one instance, 1 to 64.
    max_side
        Longest side of a frame in pixels, 1 to 512; smaller frames are not enlarged.
    black_level
        Highest grey level, 0 to 254, that counts as black where the sector is searched for.

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

    def __post_init__(self) -> None:
        sizes = 1 <= self.max_frames <= MAX_FRAMES and 1 <= self.max_side <= MAX_SIDE
        if not (sizes and 0 <= self.black_level < _WHITE):
            msg = f"Expected at most {MAX_FRAMES} frames of at most {MAX_SIDE} pixels and a black level below 255, got others"
            raise SettingsError(msg)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the parameters and `CODE_VERSION`: equal when, and only when, equal input gives equal frames."""
        canonical = msgspec.json.encode({"code": CODE_VERSION, **asdict(self)}, order="deterministic")
        return hashlib.sha256(canonical).hexdigest()

    def run(self, image: GreyFrames) -> NormalizedFrames:
        """Normalise the frames of an instance, one at a time.

        Raises
        ------
        PermanentError
            If a frame cannot be decoded.
        """
        numbers = _sample(image.total_frames, self.max_frames)
        sector, searched = self._find_sector(image, numbers)
        size = fitted(sector.bottom - sector.top, sector.right - sector.left, self.max_side)
        frames = np.empty((len(numbers), *size), np.uint8)
        for index, number in enumerate(numbers):
            grey = searched.pop(number) if number in searched else image.grey(number)
            frames[index] = shrink(sector.crop(grey), *size)
        rows, columns = image.shape
        return NormalizedFrames(
            frames=frames,
            frame_numbers=numbers,
            total_frames=image.total_frames,
            spacing=_scale(image.geometry.spacing, sector, size),
            quality=measure_quality(frames, sector_share=sector.area / (rows * columns)),
        )

    def run_array(
        self, pixels: NDArray[np.uint8], *, spacing: Spacing | None = None, sector: Box | None = None
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

        Raises
        ------
        ContractError
            If the array has another type or shape.
        """
        if pixels.dtype != np.uint8 or pixels.size == 0 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim < 2:
            msg = f"Expected uint8 of [rows, columns] or [rows, columns, 3], got {pixels.dtype} of {pixels.ndim} dimensions"
            raise ContractError(msg)
        grey = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        return self.run(_OneFrame(grey, Geometry(sector, spacing)))

    def _find_sector(self, image: GreyFrames, numbers: tuple[int, ...]) -> tuple[Box, dict[int, NDArray[np.uint8]]]:
        """Return the sector, and the frames that were decoded to find it."""
        if image.geometry.sector:
            return image.geometry.sector, {}
        searched = {number: image.grey(number) for number in {numbers[0], numbers[len(numbers) // 2], numbers[-1]}}
        return find_content(list(searched.values()), self.black_level), searched


@dataclass(frozen=True, eq=False)
class _OneFrame:
    """One grey frame as `GreyFrames`."""

    pixels: NDArray[np.uint8]
    geometry: Geometry
    total_frames: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def grey(self, number: int) -> NDArray[np.uint8]:
        del number
        return self.pixels


def _sample(total: int, most: int) -> tuple[int, ...]:
    """Return at most `most` frame numbers out of 1 to `total`, evenly spread, the first and the last among them."""
    if total <= most:
        return tuple(range(1, total + 1))
    return tuple(1 + round(index * (total - 1) / max(1, most - 1)) for index in range(most))


def _scale(spacing: Spacing | None, sector: Box, size: tuple[int, int]) -> Spacing | None:
    if spacing is None:
        return None
    return spacing[0] * (sector.bottom - sector.top) / size[0], spacing[1] * (sector.right - sector.left) / size[1]
