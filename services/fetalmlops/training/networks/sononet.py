"""SonoNet-16 (Baumgartner et al., IEEE TMI 36(11), 2017, arXiv:1612.05601), all of it to be trained.

The trunk has the names and shapes of the published state dict, so that training may start from it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from fetalmlops.training.networks.outputs import Heads, Outputs, pool

__all__ = ["BLOCKS", "EMBEDDING_LENGTH", "EPSILON", "INPUT_SCALE", "SONONET", "SonoNetNetwork"]

SONONET: Final = "sononet16"
"""Name of the network in recipes."""

BLOCKS: Final = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128), (128, 128, 128))
"""Channels of the convolutions of each block; all but the last block end in a 2x2 maximum."""
EMBEDDING_LENGTH: Final = 64
"""Channels of the adaptation layer."""
EPSILON: Final = 1e-4
"""What the published batch normalisations add to a variance."""
INPUT_SCALE: Final = 255.0
"""What the published network takes its standardised input times."""


class SonoNetNetwork(nn.Module):  # type: ignore[misc]
    """Plane head and brain head on SonoNet-16's blocks and the first layer of its adaptation, all of it to be trained.

    Parameters
    ----------
    planes, brain_planes
        Number of labels of each head.
    """

    def __init__(self, planes: int, brain_planes: int) -> None:
        super().__init__()
        self.trunk = _Trunk()
        self.heads = Heads(EMBEDDING_LENGTH, planes, brain_planes)

    @property
    def stages(self) -> list[nn.Module]:
        """Parts of the trunk, from the input on."""
        return [*self.trunk.features, self.trunk.adaption]

    def forward(self, frames: Tensor) -> Outputs:
        """Return the outputs on standardised `frames`, [frames, 1, rows, columns]."""
        earlier, last, adapted = self.trunk(frames)
        outputs: Outputs = self.heads(last, adapted)
        # The adaptation is made for the classes; what tells other images apart lies in the blocks before it.
        return outputs._replace(features=torch.cat([pool(earlier), pool(last)], dim=1))


class _Trunk(nn.Module):  # type: ignore[misc]
    """Named as the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        blocks, inputs = [], 1
        for widths in BLOCKS:
            sizes = pairwise((inputs, *widths))
            blocks.append(nn.ModuleList([_normalised(size, width, 3) for size, width in sizes]))
            inputs = widths[-1]
        self.features = nn.ModuleList(blocks)
        self.adaption = _normalised(inputs, EMBEDDING_LENGTH, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the activations of the last two blocks and of the adaptation."""
        x, ends = frames * INPUT_SCALE, []
        for index, block in enumerate(self.features):
            for layer in block:
                x = layer(x)
            ends.append(x)
            if index + 1 < len(self.features):
                x = torch.max_pool2d(x, 2)
        return ends[-2], ends[-1], self.adaption(x)


def _normalised(inputs: int, outputs: int, size: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=EPSILON), nn.ReLU())
