"""A small copy of the real data's layout, with phantoms in place of people's images, and random weights for SonoNet-16."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from torch import nn

NAMES = {
    "other": "Other",
    "brain": "Fetal brain",
    "thorax": "Fetal thorax",
    "abdomen": "Fetal abdomen",
    "femur": "Fetal femur",
    "cervix": "Maternal cervix",
}
BRAIN_NAMES = ("Trans-thalamic", "Trans-cerebellum", "Trans-ventricular")


def screen(seed: int) -> np.ndarray:
    """A fan of speckle on a black screen."""
    rng = np.random.default_rng(seed)
    fan = np.zeros((200, 260), np.uint8)
    cv2.ellipse(fan, (130, 0), (180, 180), 90, -40, 40, 255, -1)
    speckle = cv2.resize(rng.rayleigh(40 + seed % 5, (60, 80)), (260, 200), interpolation=cv2.INTER_LINEAR)
    return np.where(fan > 0, np.clip(speckle, 20, 255), 0).astype(np.uint8)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``planes`` and ``hc18``, the first with an exact duplicate, a missing image and the table's trailing blanks."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("planes/images", "hc18"):
        (root / folder).mkdir(parents=True)
    rows = ["Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "]
    for patient in range(4):
        for number, (plane, name) in enumerate(NAMES.items()):
            file = f"Patient{patient:05d}_Plane{number + 1}_1_of_1"
            brain = BRAIN_NAMES[patient % 3] if plane == "brain" else "Not A Brain"
            rows.append(f"{file};{patient};{name};{brain};Op. 1;{'Aloka' if patient % 2 else 'Voluson E6'};1 ")
            cv2.imwrite(str(root / f"planes/images/{file}.png"), screen(10 * patient + number))
    rows += ["Copy;0;Other;Not A Brain;Op. 1;Aloka;1 ", "Gone;9;Fetal brain;Other;Op. 1;Aloka;1 "]
    rows += ["Judge;10;Fetal brain;Other;Op. 1;Aloka;0 "]
    cv2.imwrite(str(root / "planes/images/Copy.png"), screen(0))
    (root / "planes/FETAL_PLANES_DB_data.csv").write_text("\n".join(rows) + "\n")
    for number in range(6):
        cv2.imwrite(str(root / f"hc18/{number // 2:03d}_{'2' if number % 2 else ''}HC.png"), screen(100 + number))
    cv2.imwrite(str(root / "hc18/000_HC_Annotation.png"), screen(200))
    return root


@pytest.fixture(scope="session")
def sononet() -> tuple[nn.Sequential, nn.Sequential]:
    """SonoNet-16 as its authors build it, with random weights: blocks, and the adaptation up to its 14 maps."""
    import torch
    from torch import nn

    from fetalmlops.training.networks.sononet import BLOCKS

    torch.manual_seed(0)
    blocks, inputs = [], 1
    for index, widths in enumerate(BLOCKS):
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(
                nn.Sequential(
                    nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, eps=1e-4), nn.ReLU()
                )
            )
            inputs = width
        if index + 1 < len(BLOCKS):
            layers.append(nn.MaxPool2d(2))
        blocks.append(nn.Sequential(*layers))
    adaption = nn.Sequential(
        nn.Conv2d(inputs, 64, 1, bias=False),
        nn.BatchNorm2d(64, eps=1e-4),
        nn.ReLU(),
        nn.Conv2d(64, 14, 1, bias=False),
        nn.BatchNorm2d(14, eps=1e-4),
    )
    features = nn.Sequential(*blocks)
    with torch.no_grad():
        for _ in range(20):
            adaption(features(255 * torch.randn(4, 1, 32, 48)))
    return features.eval(), adaption.eval()
