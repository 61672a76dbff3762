"""How much worse planes are told on a scanner that training never saw, by normalisation pipeline.

Run: ``python benchmarks/scanner_gap.py [patients] [splits]``. Every patient is drawn once on every simulated scanner. For each
split of the patients and each scanner, a classifier is fitted on two thirds of the patients, on the frames of all scanners but
this one or of this one alone, and judged on the last third: within (scanners of the fitting) and across (the others). Same
patients, same frames, same regression for every pipeline. The classifier is multinomial logistic regression, on histograms of
oriented gradients or on the pixels of a small copy that is standardised as a network's input.

``levels kept`` is the harmonised pipeline without its last step; ``per scanner`` has each scanner's quantiles, of all
patients, in place of the frame's own, those of the left-out scanner too, as a site has once it trusts its statistics.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import HARMONISED, PIPELINES, PLAIN
from fetalmlops.domain.imaging.pipelines.harmonise import Harmonisation, ScannerLevels
from fetalmlops.domain.simulation import SCANNERS, Burned, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fetalmlops.domain.imaging.pipelines.normalize import Pipeline

    Features = NDArray[np.float64]

ROWS, COLUMNS, BLACK = 96, 128, 8
STEPS, PENALTY = 100, 1e-3
CELL, BINS = 16, 9


def fitted(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame within ROWS x COLUMNS, its aspect kept, black beside it."""
    scale = min(ROWS / frame.shape[0], COLUMNS / frame.shape[1])
    size = max(1, round(frame.shape[0] * scale)), max(1, round(frame.shape[1] * scale))
    top, left = (ROWS - size[0]) // 2, (COLUMNS - size[1]) // 2
    canvas = np.zeros((ROWS, COLUMNS), np.uint8)
    canvas[top : top + size[0], left : left + size[1]] = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
    return canvas


def gradients(frame: NDArray[np.uint8]) -> Features:
    """Return histograms of oriented gradients over cells of 16 x 16 pixels, each relative to its neighbourhood."""
    across, down = (cv2.Sobel(frame, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength, angle = cv2.cartToPolar(across, down)
    bins = (angle / np.pi % 1 * BINS).astype(int) % BINS
    size = COLUMNS // CELL, ROWS // CELL
    cells = [cv2.resize(strength * (bins == each), size, interpolation=cv2.INTER_AREA) for each in range(BINS)]
    around = cv2.blur(np.square(cells).sum(0), (3, 3)) + 1
    return (np.array(cells) / np.sqrt(around)).astype(np.float64).ravel()


def pixels(frame: NDArray[np.uint8]) -> Features:
    """Return a copy of 24 x 32 pixels with mean 0 and standard deviation 1."""
    small = cv2.resize(frame, (COLUMNS // 4, ROWS // 4), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    return (small - small.mean()) / (small.std() + 1e-9)


KINDS: dict[str, Callable[[NDArray[np.uint8]], Features]] = {"gradients": gradients, "pixels": pixels}


def regression(features: Features, labels: NDArray[np.int64]) -> Callable[[Features], NDArray[np.int64]]:
    """Fit multinomial logistic regression by accelerated gradient descent and return its decision."""
    mean, scale = features.mean(0), features.std(0) + 1e-6
    scaled = np.column_stack([(features - mean) / scale, np.ones(len(features))]).astype(np.float32)
    wanted = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    rate = 1 / (0.5 * float(np.linalg.norm(scaled, 2)) ** 2 / len(scaled) + PENALTY)
    weights = ahead = np.zeros((scaled.shape[1], wanted.shape[1]), np.float32)
    for step in range(STEPS):
        logits = scaled @ ahead
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        following = ahead - rate * (scaled.T @ (shares - wanted) / len(scaled) + PENALTY * ahead)
        weights, ahead = following, following + step / (step + 3) * (following - weights)
    return lambda other: np.asarray(
        (np.column_stack([(other - mean) / scale, np.ones(len(other))]) @ weights).argmax(1), np.int64
    )


def macro_f1(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the mean F1 score of the planes."""
    scores = [
        2 * np.sum((found == k) & (truth == k)) / max(1, np.sum(found == k) + np.sum(truth == k))
        for k in np.unique(truth)
    ]
    return float(np.mean(scores))


def draw(patients: int) -> tuple[list[tuple[NDArray[np.uint8], Box]], NDArray[np.int64]]:
    """Return screens with their regions, and patient, scanner and plane of each."""
    screens, about = [], []
    for patient in range(patients):
        for number, scanner in enumerate(SCANNERS):
            rng = np.random.default_rng((patient, number))
            plane = patient % len(PLANES)
            screen = render(PLANES[plane], scanner, rng, burned=Burned(calipers=bool(rng.random() < 0.3)))
            region = screen.region
            screens.append((screen.pixels, Box(region.y0, region.x0, region.y1 + 1, region.x1 + 1)))
            about.append((patient, number, plane))
    return screens, np.array(about).T


def known_levels(frames: list[NDArray[np.uint8]], scanners: NDArray[np.int64]) -> Harmonisation:
    """Return a harmonisation that knows every scanner's quantiles."""
    known = []
    for number, scanner in enumerate(SCANNERS):
        levels = np.concatenate([frames[index][frames[index] > BLACK] for index in np.flatnonzero(scanners == number)])
        steps = np.round(np.quantile(levels, np.arange(17) / 16)).astype(int)
        steps[0], steps[-1] = 0, 255
        steps = np.maximum.accumulate(steps - np.arange(17)) + np.arange(17)
        steps = np.minimum(steps, 255 - np.arange(16, -1, -1))
        known.append(ScannerLevels(scanner=scanner.name, levels=tuple(steps.tolist())))
    return Harmonisation(scanners=tuple(known))


def compare(name: str, features: dict[str, Features], about: NDArray[np.int64], splits: int) -> None:
    """Print a pipeline's rows; `about` holds patient, scanner and plane of each frame."""
    who, where, what = about
    for alone in (False, True):
        for kind, values in features.items():
            rows = []
            for split in range(splits):
                judged = np.isin(who, np.random.default_rng(split).permutation(who.max() + 1)[: (who.max() + 1) // 3])
                for scanner in range(len(SCANNERS)):
                    known = (where == scanner) == alone
                    decide = regression(values[~judged & known], what[~judged & known])
                    for place in (judged & known, judged & ~known):
                        found = decide(values[place])
                        rows.append((float((found == what[place]).mean()), macro_f1(found, what[place])))
            table = np.array(rows).reshape(splits, len(SCANNERS), 2, 2).mean(0)
            within, across = table.mean(0)
            gaps = table[:, 0, 0] - table[:, 1, 0]
            error = gaps.std(ddof=1) / len(SCANNERS) ** 0.5
            print(
                f"{'one alone' if alone else 'all but one':13}{name:13}{kind:11}{within[0]:>8.3f}{within[1]:>7.3f}"
                f"{across[0]:>9.3f}{across[1]:>7.3f}{gaps.mean():>9.3f} ± {error:.3f}{gaps.max():>8.3f}",
                flush=True,
            )


def main(patients: int, splits: int) -> None:
    """Print the table."""
    screens, about = draw(patients)
    full = PIPELINES[HARMONISED]
    bare = replace(full, harmonisation=None)
    unharmonised = [bare.run_array(screen, sector=box).frames[0] for screen, box in screens]
    pipelines: dict[str, Pipeline] = {
        PLAIN: PIPELINES[PLAIN],
        "levels kept": bare,
        HARMONISED: full,
        "per scanner": replace(full, harmonisation=known_levels(unharmonised, about[1])),
    }
    print(
        f"{patients} patients on {len(SCANNERS)} scanners, {splits} splits; chance {1 / len(PLANES):.3f}; ± over scanners"
    )
    print(
        f"{'fitted on':13}{'pipeline':13}{'features':11}{'within':>8}{'F1':>7}{'across':>9}{'F1':>7}{'gap':>9}{'worst':>16}"
    )
    for name, pipeline in pipelines.items():
        frames = []
        for (screen, box), number in zip(screens, about[1].tolist(), strict=True):
            frames.append(fitted(pipeline.run_array(screen, sector=box, scanner=SCANNERS[number].name).frames[0]))
        measured = {kind: np.array([measure(frame) for frame in frames]) for kind, measure in KINDS.items()}
        compare(name, measured, about, splits)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main(*(int(value) for value in (sys.argv[1:] + ["120", "2"][len(sys.argv) - 1 :])))
