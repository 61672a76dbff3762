"""Small data sets of phantoms in a folder, and a source of their images, for tests of training and evaluation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, Plane
from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry, Split, encode_data_manifest, manifest_digest
from fetalmlops.domain.learning.phantoms.scanners import plan_scanners
from fetalmlops.domain.simulation.rendering import Burned, render
from fetalmlops.domain.simulation.scanners import SCANNERS
from fetalmlops.platform.learning.phantoms import write_dataset

KINDS = (
    *((plane, None) for plane in PLANES if plane is not Plane.BRAIN),
    *((Plane.BRAIN, brain_plane) for brain_plane in BRAIN_PLANES),
)


@dataclass(frozen=True)
class FolderData:
    """Images in a folder."""

    manifest: DataManifest
    digest: str
    root: Path

    def read(self, entry: ImageEntry) -> NDArray[np.uint8]:
        screen = cv2.imread(str(self.root / entry.path), cv2.IMREAD_GRAYSCALE)
        assert screen is not None
        return np.asarray(screen, np.uint8)


def phantom_data(folder: Path, images: int, *, per_patient: int = 9, seed: int = 1) -> FolderData:
    """Write phantoms, and a manifest that names them; all are for testing."""
    (folder / "images").mkdir(parents=True)
    entries = [_write(folder, index, index // per_patient, seed) for index in range(images)]
    manifest = DataManifest(
        name="phantoms", layout="simulated", licence="none needed: no image of a person", images=entries
    )
    data = encode_data_manifest(manifest)
    (folder / "manifest.json").write_bytes(data)
    return FolderData(manifest, manifest_digest(data), folder)


def scanner_data(folder: Path, images: int, *, seed: int = 1) -> None:
    """Write phantoms of which training sees some scanners only, and their manifest beside them."""
    write_dataset(folder, plan_scanners(images, seed), "phantoms", workers=1)


def _write(folder: Path, index: int, patient: int, seed: int) -> ImageEntry:
    rng = np.random.default_rng((seed, index))
    plane, brain_plane = KINDS[index % len(KINDS)]
    scanner = SCANNERS[patient % len(SCANNERS)]
    burned = Burned(calipers=bool(rng.random() < 0.3))
    pixels = render(plane, scanner, rng, brain_plane=brain_plane, burned=burned).pixels
    grey = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    ok, png = cv2.imencode(".png", grey)
    assert ok
    path = f"images/{index:05}.png"
    (folder / path).write_bytes(png.tobytes())
    return ImageEntry(
        path=path,
        sha256=hashlib.sha256(png.tobytes()).hexdigest(),
        pixels=hashlib.sha256(grey.tobytes()).hexdigest(),
        hash="0" * 16,
        patient=f"p{patient:04}",
        split=Split.TEST,
        plane=plane,
        brain_plane=brain_plane,
        scanner=scanner.name,
        operator=f"op {patient % 2}",
        rows=grey.shape[0],
        columns=grey.shape[1],
    )
