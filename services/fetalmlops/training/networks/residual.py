"""A small residual trunk for screens of simulated scanners and other easy tasks."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from fetalmlops.training.networks.outputs import Outputs, pool

__all__ = ["ConvBlock", "PlaneNetwork", "ResidualBlock"]


class ConvBlock(nn.Module):  # type: ignore[misc]
    """A 3x3 convolution without bias, batch normalisation and, if wanted, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, *, rectified: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations, [images, outputs, rows / stride, columns / stride]."""
        x = self.norm(self.conv(x))
        return torch.relu(x) if self.rectified else x


class ResidualBlock(nn.Module):  # type: ignore[misc]
    """Two `ConvBlock` whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = ConvBlock(channels, channels, rectified=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations, of the shape of `x`."""
        return torch.relu(x + self.second(self.first(x)))


class PlaneNetwork(nn.Module):  # type: ignore[misc]
    """Plane head and brain head on one trunk of stride 16.

    Parameters
    ----------
    planes, brain_planes
        Number of labels of each head.
    widths
        Channels of the trunk's stages; each but the first ends in a residual block.
    """

    def __init__(self, planes: int, brain_planes: int, widths: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        stages: list[nn.Sequential] = [nn.Sequential(ConvBlock(1, widths[0], 2))]
        for inputs, outputs in itertools.pairwise(widths):
            stages.append(nn.Sequential(ConvBlock(inputs, outputs, 2), ResidualBlock(outputs)))
        self.stages = nn.ModuleList(stages)
        self.plane_head = nn.Conv2d(widths[-1], planes, 1)
        self.brain_head = nn.Conv2d(widths[-1], brain_planes, 1)

    def forward(self, frames: Tensor) -> Outputs:
        """Return the outputs on `frames`, [frames, 1, rows, columns]."""
        x, earlier = frames, frames
        for stage in self.stages:
            earlier, x = x, stage(x)
        embedding = pool(x)
        maps = self.plane_head(x)
        brain_logits = self.brain_head(embedding[:, :, None, None])[:, :, 0, 0]
        return Outputs(pool(maps), brain_logits, embedding, torch.cat([pool(earlier), embedding], dim=1), maps)
