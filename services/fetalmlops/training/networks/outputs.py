"""What every network says of a batch, and the heads that stand on every trunk.

The heads run as 1x1 convolutions before the pooling. Pooling and heads are linear, so this gives the same logits, and the
maps before the pooling are the class-activation maps (see `fetalmlops.domain.models.engine`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Heads", "Outputs", "pool"]


class Outputs(NamedTuple):
    """Outputs of a batch, named as the engine's: `fetalmlops.domain.models.engine.EngineOutput`."""

    logits: Tensor
    brain_logits: Tensor
    embedding: Tensor
    features: Tensor
    maps: Tensor


class Heads(nn.Module):  # type: ignore[misc]
    """A plane head and a brain head on the last block of a trunk.

    Parameters
    ----------
    channels
        Channels of the last block.
    planes, brain_planes
        Number of labels of each head.
    """

    def __init__(self, channels: int, planes: int, brain_planes: int) -> None:
        super().__init__()
        self.planes = nn.Conv2d(channels, planes, 1)
        self.brain_planes = nn.Conv2d(channels, brain_planes, 1)

    def forward(self, earlier: Tensor, x: Tensor) -> Outputs:
        """Return the outputs on the last two blocks, [images, channels, rows, columns] each."""
        embedding, maps = pool(x), self.planes(x)
        brain_logits = self.brain_planes(embedding[:, :, None, None])[:, :, 0, 0]
        # The out-of-scope score takes logarithms: blocks that end without a rectifier may be below -1.
        features = torch.cat([pool(torch.relu(earlier)), pool(torch.relu(x))], dim=1)
        return Outputs(pool(maps), brain_logits, embedding, features, maps)


def pool(x: Tensor) -> Tensor:
    """Return the mean over rows and columns, [images, channels]."""
    return x.mean(dim=(2, 3))
