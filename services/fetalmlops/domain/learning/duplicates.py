"""The same image twice, or nearly: digests of pixels, a perceptual hash, and the search for pairs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fetalmlops.domain.learning.manifest import ImageEntry

__all__ = [
    "CANDIDATE_BITS",
    "SIMILAR",
    "Pair",
    "candidate_pairs",
    "detail",
    "exact_pairs",
    "perceptual_hash",
    "pixel_digest",
    "similarity",
]

CANDIDATE_BITS: Final = 8
"""Most bits in which the hashes of nearly equal images differ. JPEG at quality 70, a resize to 0.6, more gain and a shift
by 3 pixels change 4 bits at most; the nearest images of two patients among 171 real ones differ in 10."""

SIMILAR: Final = 0.84
"""Least similarity of nearly equal images. The changes above leave 0.88 or more; the most alike images of two patients
among the same 171 reach 0.32, of one patient 0.38, and of 335,683 candidate pairs of 12,400 phantoms 0.79."""

_SIDE = 32
_LOW = 8
_DETAIL = 64
_BLUR = 3.0
_MARGIN = 0.15
_NOISE = 4.0  # grey levels below which structure is not lifted
_BLOCK = 512


class Pair(NamedTuple):
    """Two images by their indices, the first the lower, and in how many bits their hashes differ."""

    first: int
    second: int
    bits: int = 0


def pixel_digest(grey: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image's size and grey pixels, 64 hexadecimal digits: the same in whatever file it lies."""
    hasher = hashlib.sha256(b"%d %d " % grey.shape)
    hasher.update(np.ascontiguousarray(grey).data)
    return hasher.hexdigest()


def perceptual_hash(grey: NDArray[np.uint8]) -> str:
    """Return 64 bits, 16 hexadecimal digits, that change little when an image is scaled, compressed or made brighter.

    Each bit says whether one of the 8 by 8 lowest coefficients of the discrete cosine transform, taken at 32 by 32 pixels,
    is above their median.

    Examples
    --------
    >>> image = cv2.resize(np.random.default_rng(1).integers(0, 256, (6, 8), np.uint8), (80, 60))
    >>> changed = cv2.convertScaleAbs(image, alpha=0.5)
    >>> (int(perceptual_hash(image), 16) ^ int(perceptual_hash(changed), 16)).bit_count() <= CANDIDATE_BITS
    True
    """
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    return np.packbits(low > np.median(low[1:])).tobytes().hex()


def detail(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an image's fine structure as a vector of length 1, without the coarse shape and the local contrast.

    Only the middle of the screen counts: text, grey bar and depth scale around it are the same in all images of a scanner.
    """
    rows, columns = grey.shape
    top, left = int(_MARGIN * rows), int(_MARGIN * columns)
    middle = np.ascontiguousarray(grey[top : rows - top, left : columns - left])
    small = cv2.resize(middle, (_DETAIL, _DETAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), _BLUR)
    contrast = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), _BLUR))
    evened = (fine / (contrast + _NOISE)).ravel()
    evened -= evened.mean()
    return np.asarray(evened / max(float(np.linalg.norm(evened)), 1e-6), np.float32)


def similarity(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the correlation of two images' `detail`, -1 to 1."""
    return float(first @ second)


def exact_pairs(images: Sequence[ImageEntry]) -> list[Pair]:
    """Return the pairs of images with the same pixels: each further copy with the first."""
    first: dict[str, int] = {}
    return [
        Pair(first[image.pixels], index) for index, image in enumerate(images) if _again(first, image.pixels, index)
    ]


def _again(first: dict[str, int], pixels: str, index: int) -> bool:
    return first.setdefault(pixels, index) != index


def candidate_pairs(images: Sequence[ImageEntry], bits: int = CANDIDATE_BITS) -> list[Pair]:
    """Return the pairs of images whose hashes differ in few bits but whose pixels differ, nearest first.

    Parameters
    ----------
    images
        The images.
    bits
        Most bits in which they may differ.
    """
    hashes = np.array([int(image.hash, 16) for image in images], np.uint64)
    found = (pair for pair in _near(hashes, bits) if images[pair.first].pixels != images[pair.second].pixels)
    return sorted(found, key=lambda pair: (pair.bits, pair.first, pair.second))


def _near(hashes: NDArray[np.uint64], bits: int) -> Iterator[Pair]:
    """Yield the pairs of hashes that differ in few bits: block by block of rows, so that memory stays bounded."""
    for start in range(0, len(hashes), _BLOCK):
        distances = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ hashes[None, start:])
        for row, column in np.argwhere(distances <= bits).tolist():
            if column > row:
                yield Pair(start + row, start + column, int(distances[row, column]))
