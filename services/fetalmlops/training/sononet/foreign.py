"""Images that are no ultrasound, for the out-of-scope score: noise, text, empty sectors, textures, and photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from fetalmlops.domain.learning.foreign import foreign_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["foreign_screens"]

_SHAPE = (300, 400)


def foreign_screens(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Return screens by kind, each ``uint8`` of [count, rows, columns]."""
    rng = np.random.default_rng((seed, 1))
    photographs = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in load_sample_images().images]
    makers: dict[str, Callable[[], NDArray[np.uint8]]] = {
        "pink noise": lambda: _pink(rng, 1.0),
        "clouds": lambda: _pink(rng, 2.0),
        "leaves": lambda: _leaves(rng),
        "grain": lambda: _grain(rng),
        "photographs": lambda: _part(photographs[int(rng.integers(len(photographs)))], rng),
    }
    made = {name: np.stack([make() for _ in range(count)]) for name, make in makers.items()}
    return {**foreign_images(count, seed, *_SHAPE), **made}


def _pink(rng: np.random.Generator, slope: float) -> NDArray[np.uint8]:
    """Return noise whose amplitude falls as frequency to the power of -slope."""
    rows, columns = _SHAPE
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    frequency[0, 0] = np.inf
    return _levels(np.fft.irfft2(np.fft.rfft2(rng.normal(size=_SHAPE)) / frequency**slope, s=_SHAPE))


def _leaves(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return discs that cover each other, whose sizes follow a power law, as edges of natural scenes do."""
    image = np.zeros(_SHAPE, np.uint8)
    for _ in range(600):
        radius = int(min(120, 4 / rng.random() ** 0.5))
        centre = (int(rng.integers(_SHAPE[1])), int(rng.integers(_SHAPE[0])))
        cv2.circle(image, centre, radius, int(rng.integers(20, 236)), -1)
    return image


def _grain(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return rings as of wood, bent by smooth noise."""
    y, x = np.mgrid[: _SHAPE[0], : _SHAPE[1]]
    bent = cv2.resize(rng.normal(size=(4, 5)), _SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    distance = np.hypot((y - rng.uniform(*_SHAPE)) / rng.uniform(1, 6), x - rng.uniform(-100, 500))
    return _levels(np.sin(distance / rng.uniform(2, 8) + 2 * bent) + 0.2 * rng.normal(size=_SHAPE))


def _part(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    top, left = (int(rng.integers(full - part)) for full, part in zip(image.shape, _SHAPE, strict=True))
    part = image[top : top + _SHAPE[0], left : left + _SHAPE[1]]
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def _levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = np.quantile(values, (0.005, 0.995))
    return np.asarray(np.clip(255 * (values - low) / (high - low), 0, 255), np.uint8)
