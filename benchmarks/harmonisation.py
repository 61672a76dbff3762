"""How well a simple classifier tells the scanner from a frame, before and after harmonisation.

Run: ``python benchmarks/harmonisation.py [patients] [folder]``. Every patient is drawn once on every simulated scanner; half of
the patients are for fitting, the other half for judging. The classifier is the nearest centroid on standardised features: the
histogram of the sector's grey levels, or the radial spectrum of its middle. Chance is one in as many as there are scanners.

Where the folder (default: ``../shared/data``) holds real images, the same is told of them: the make of the scanner within
``fetal_planes`` (its ``labels.csv``), and the hospital, ``fetal_planes`` or ``hc18``, of brains. Folds are patients, accuracy
is balanced over the classes, and intervals (95 %) are from resampling patients.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import PLANES
from fetalmlops.domain.imaging.geometry import Box
from fetalmlops.domain.imaging.pipelines import PIPELINES
from fetalmlops.domain.imaging.pipelines.screens import open_screen
from fetalmlops.domain.simulation import SCANNERS, Burned, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BINS, RINGS, SIDE, BLACK, DRAWS = 32, 24, 128, 8, 1000


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


KINDS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = {"histogram": histogram, "spectrum": spectrum}


def balanced(right: NDArray[np.bool_], classes: NDArray[np.str_]) -> float:
    """Return the mean over the classes of the share that is right."""
    return float(np.mean([right[classes == each].mean() for each in np.unique(classes)]))


def told(features: NDArray[np.float64], patients: NDArray[np.str_], classes: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which frames' class the other patients' frames tell rightly."""
    right = np.zeros(len(classes), np.bool_)
    names = np.unique(classes)
    for patient in np.unique(patients):
        fitting = patients != patient
        scaled = (features - features[fitting].mean(0)) / (features[fitting].std(0) + 1e-9)
        centroids = np.stack([scaled[fitting & (classes == each)].mean(0) for each in names])
        nearest = np.linalg.norm(scaled[~fitting][:, None] - centroids, axis=2).argmin(1)
        right[~fitting] = names[nearest] == classes[~fitting]
    return right


def interval(right: NDArray[np.bool_], patients: NDArray[np.str_], classes: NDArray[np.str_]) -> tuple[float, float]:
    """Return the 95 % interval of the balanced accuracy over patients drawn anew."""
    rng, names = np.random.default_rng(0), np.unique(patients)
    places = {name: np.flatnonzero(patients == name) for name in names}
    values = []
    while len(values) < DRAWS:
        drawn = np.concatenate([places[name] for name in rng.choice(names, len(names))])
        if len(np.unique(classes[drawn])) == len(np.unique(classes)):
            values.append(balanced(right[drawn], classes[drawn]))
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high


def real_tasks(folder: Path) -> dict[str, list[tuple[Path, str, str]]]:
    """Return images with patient and class, by what is told."""
    with (folder / "fetal_planes" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    planes = [(folder / "fetal_planes" / "images" / row["file"], row) for row in rows]
    machines = [(path, f"f{row['patient']}", row["machine"].split()[0]) for path, row in planes]
    brains = [(path, f"f{row['patient']}", "fetal_planes") for path, row in planes if row["plane"] == "Fetal brain"]
    other = [(path, f"h{path.stem.split('_')[0]}", "hc18") for path in sorted((folder / "hc18" / "images").iterdir())]
    return {
        "make (Aloka, Voluson)": [entry for entry in machines if entry[2] in ("Aloka", "Voluson")],
        "hospital, of brains": brains + other,
    }


def compare_real(folder: Path) -> None:
    """Print how well makes and hospitals are told from real images."""
    for task, entries in real_tasks(folder).items():
        patients, classes = (np.array([entry[place] for entry in entries]) for place in (1, 2))
        counts = ", ".join(f"{each} {np.sum(classes == each)}" for each in np.unique(classes))
        print(f"\n{task}: {counts}; {len(np.unique(patients))} patients; chance {1 / len(np.unique(classes)):.3f}")
        screens = [open_screen(path.read_bytes()) for path, _, _ in entries]
        for kind, measure in KINDS.items():
            line = f"{kind:12}"
            for pipeline in PIPELINES.values():
                features = np.array([measure(pipeline.run(screen).frames[0]) for screen in screens])
                right = told(features, patients, classes)
                low, high = interval(right, patients, classes)
                line += f"{balanced(right, classes):>10.3f} [{low:.2f}, {high:.2f}]"
            print(line)


def main(patients: int, folder: Path) -> None:
    """Print the tables."""
    features: dict[tuple[str, str], list[NDArray[np.float64]]] = {(a, b): [] for a in PIPELINES for b in KINDS}
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
                for kind, measure in KINDS.items():
                    features[name, kind].append(measure(frame))
    print(f"{patients} patients on {len(SCANNERS)} scanners; chance {1 / len(SCANNERS):.3f}")
    print(f"{'features':12}" + "".join(f"{name:>14}" for name in PIPELINES))
    for kind in KINDS:
        found = [accuracy(np.array(features[name, kind]), np.array(who), np.array(where)) for name in PIPELINES]
        print(f"{kind:12}" + "".join(f"{value:>14.3f}" for value in found))
    if (folder / "fetal_planes" / "labels.csv").exists() and (folder / "hc18").exists():
        compare_real(folder)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    place = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[2] / "shared" / "data"
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60, place)
