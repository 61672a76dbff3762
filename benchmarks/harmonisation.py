"""How well a simple classifier tells the scanner from a frame, before and after harmonisation.

Run: ``python benchmarks/harmonisation.py [patients]``. Every patient is drawn once on every simulated scanner; half of the
patients are for fitting, the other half for judging. The classifier is the nearest centroid on standardised features: the
histogram of the sector's grey levels, or the radial spectrum of its middle. Chance is one in as many as there are scanners.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import PIPELINES
from fetalmlops.domain.simulation import SCANNERS, Burned, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BINS, RINGS, SIDE, BLACK = 32, 24, 128, 8


def histogram(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the shares of the grey levels that are not black, [BINS]."""
    counts, _ = np.histogram(frame[frame > BLACK], BINS, (BLACK, 256))
    return counts / max(1, counts.sum())


def spectrum(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the log power of the middle by distance from the origin, [RINGS]."""
    top, left = ((side - SIDE) // 2 for side in frame.shape)
    patch = frame[max(0, top) :, max(0, left) :][:SIDE, :SIDE].astype(np.float64)
    patch = (patch - patch.mean()) * np.hanning(patch.shape[0])[:, None] * np.hanning(patch.shape[1])
    power = np.abs(np.fft.fft2(patch, (SIDE, SIDE))) ** 2
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
    ring = np.minimum((radius * 2 * RINGS).astype(int), RINGS - 1)
    return np.log1p(np.bincount(ring.ravel(), power.ravel(), RINGS) / np.bincount(ring.ravel(), minlength=RINGS))


def accuracy(features: NDArray[np.float64], patients: NDArray[np.int64], scanners: NDArray[np.int64]) -> float:
    """Return the share of frames of unseen patients whose scanner is named rightly."""
    fitting = patients % 2 == 0
    scaled = (features - features[fitting].mean(0)) / (features[fitting].std(0) + 1e-9)
    centroids = np.stack([scaled[fitting & (scanners == scanner)].mean(0) for scanner in np.unique(scanners)])
    distances = np.linalg.norm(scaled[~fitting][:, None] - centroids, axis=2)
    return float((distances.argmin(1) == scanners[~fitting]).mean())


def main(patients: int) -> None:
    """Print the table."""
    kinds: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = {
        "histogram": histogram,
        "spectrum": spectrum,
    }
    features: dict[tuple[str, str], list[NDArray[np.float64]]] = {(a, b): [] for a in PIPELINES for b in kinds}
    who, where = [], []
    for patient in range(patients):
        for number, scanner in enumerate(SCANNERS):
            rng = np.random.default_rng((patient, number))
            plane = list(PLANES)[patient // 2 % len(PLANES)]
            screen = render(plane, scanner, rng, burned=Burned(calipers=bool(rng.random() < 0.3)))
            box = Box(screen.region.y0, screen.region.x0, screen.region.y1 + 1, screen.region.x1 + 1)
            who.append(patient)
            where.append(number)
            for name, pipeline in PIPELINES.items():
                frame = pipeline.run_array(screen.pixels, sector=box).frames[0]
                for kind, measure in kinds.items():
                    features[name, kind].append(measure(frame))
    print(f"{patients} patients on {len(SCANNERS)} scanners; chance {1 / len(SCANNERS):.3f}")
    print(f"{'features':12}" + "".join(f"{name:>14}" for name in PIPELINES))
    for kind in kinds:
        found = [accuracy(np.array(features[name, kind]), np.array(who), np.array(where)) for name in PIPELINES]
        print(f"{kind:12}" + "".join(f"{value:>14.3f}" for value in found))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
