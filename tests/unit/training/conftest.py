"""A small data set of phantoms on disk, and the frames prepared from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES, BrainPlane, Plane
from fetalmlops.domain.learning.manifest import ImageEntry, Split
from fetalmlops.domain.models.manifest import InputSpec
from fetalmlops.training.loading.frames import Frames
from support.learning import scanner_data

SPEC = InputSpec(rows=48, columns=64)


def entry(
    number: int,
    plane: Plane = Plane.FEMUR,
    patient: str = "a",
    split: Split = Split.TRAIN,
    brain: BrainPlane | None = None,
) -> ImageEntry:
    return ImageEntry(
        path=f"{number}.png",
        sha256=f"{number:064x}",
        pixels=f"{number:064x}",
        hash="0" * 16,
        patient=patient,
        split=split,
        plane=plane,
        brain_plane=brain,
        rows=48,
        columns=64,
    )


def striped_frames(count: int = 96, seed: int = 0) -> Frames:
    """Frames that tell their plane by a bright stripe, and a brain's sub-plane by a second."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(20, 80, (count, 48, 64), dtype=np.uint8)
    images = []
    for index in range(count):
        plane = PLANES[index % len(PLANES)]
        brain = BRAIN_PLANES[index // 6 % len(BRAIN_PLANES)] if plane is Plane.BRAIN else None
        grey[index, 8 * (index % 6) : 8 * (index % 6) + 6] = 220
        if brain:
            grey[index, :, 16 * BRAIN_PLANES.index(brain) : 16 * BRAIN_PLANES.index(brain) + 8] = 150
        split = (Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST)[index // 6 % 5]
        images.append(entry(index, plane, f"{split}-{index}", split, brain))
    sizes = np.full((count, 2), (48, 64), np.int32)
    return Frames(images, SPEC, grey, np.ones_like(grey), sizes)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    scanner_data(folder, 135)
    return folder
