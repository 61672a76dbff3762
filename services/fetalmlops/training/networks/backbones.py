"""Networks of timm as trunks: one grey channel in, the last two blocks out. Nothing is ever downloaded."""

from __future__ import annotations

from typing import Final

import timm
from torch import Tensor, nn

from fetalmlops.training.networks.outputs import Heads, Outputs

__all__ = ["BACKBONES", "BackboneNetwork"]

BACKBONES: Final = ("mobilenetv3_small_100", "mobilenetv4_conv_small", "efficientnet_lite0", "densenet169")
"""Names of the networks, as timm has them."""


class BackboneNetwork(nn.Module):  # type: ignore[misc]
    """Plane head and brain head on a trunk of timm, from random weights.

    Parameters
    ----------
    name
        One of `BACKBONES`.
    planes, brain_planes
        Number of labels of each head.
    """

    def __init__(self, name: str, planes: int, brain_planes: int) -> None:
        super().__init__()
        self.trunk = timm.create_model(name, pretrained=False, features_only=True, in_chans=1, out_indices=(-2, -1))
        self.heads = Heads(self.trunk.feature_info.channels()[-1], planes, brain_planes)

    @property
    def stages(self) -> list[nn.Module]:
        """Parts of the trunk, from the input on: timm's blocks each, and what stands before or between them."""
        parts: list[nn.Module] = []
        for name, part in self.trunk.named_children():
            parts += [*part] if name == "blocks" else [part]
        return [part for part in parts if any(True for _ in part.parameters())]

    def forward(self, frames: Tensor) -> Outputs:
        """Return the outputs on `frames`, [frames, 1, rows, columns]."""
        earlier, x = self.trunk(frames)
        outputs: Outputs = self.heads(earlier, x)
        return outputs
