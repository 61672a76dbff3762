"""A site's labelled data set of simulated images, written to disk as `fetalmlops data add` writes one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, Plane
from fetalmlops.domain.learning.manifest import DataManifest, ImageEntry, Split
from fetalmlops.domain.simulation.rendering import render
from fetalmlops.domain.simulation.scanners import SCANNERS
from fetalmlops.platform.learning.datasets import add_dataset
from fetalmlops.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["write_site"]


def write_site(
    home: Path,
    images: int,
    *,
    planes: Sequence[Plane] = PLANES,
    per_patient: int = 2,
    name: str = "site",
    seed: int = 0,
) -> None:
    """Render images of two scanners, small so that it is quick, and add them to the state folder as a data set."""
    root = home / f"images-{name}"
    root.mkdir(parents=True)
    entries = []
    for index in range(images):
        plane = planes[index % len(planes)]
        brain_plane = BRAIN_PLANES[index // len(planes) % 3] if plane is Plane.BRAIN else None
        scanner = SCANNERS[index // per_patient % 2]
        pixels = render(plane, scanner, np.random.default_rng((seed, index)), brain_plane=brain_plane).pixels
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        data = cv2.imencode(".png", grey)[1].tobytes()
        (root / f"{index}.png").write_bytes(data)
        entries.append(
            ImageEntry(
                path=f"{index}.png",
                sha256=hashlib.sha256(data).hexdigest(),
                pixels=hashlib.sha256(grey.tobytes()).hexdigest(),
                hash=f"{index:016x}",
                patient=f"p{index // per_patient}",
                split=Split.TEST,
                plane=plane,
                brain_plane=brain_plane,
                scanner=scanner.name,
                site=name,
                rows=grey.shape[0],
                columns=grey.shape[1],
            )
        )
    manifest = DataManifest(name=name, layout="simulated", licence="Apache-2.0", images=entries)
    add_dataset(load_settings(home), manifest, root)
