"""Fitting a network, and running it over a data set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from fetalmlops.domain.models.engine import EngineOutput, join_outputs
from fetalmlops.training.data import NO_BRAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fetalmlops.training.data import Dataset
    from fetalmlops.training.network import Outputs, PlaneNetwork

__all__ = ["Recipe", "fit", "run"]

_EVALUATION_BATCH = 64


class Recipe(NamedTuple):
    """How a network is fitted."""

    epochs: int = 12
    """Passes over the data."""
    batch: int = 48
    """Images in one step."""
    learning_rate: float = 3e-3
    """Highest learning rate, reached after a tenth of the steps and then lowered along a cosine."""
    weight_decay: float = 0.02
    """Decay of AdamW."""
    smoothing: float = 0.05
    """Label smoothing."""
    noise: float = 0.1
    """Standard deviation of the noise added to the standardised images."""


def fit(network: PlaneNetwork, data: Dataset, recipe: Recipe, seed: int, report: Callable[[int, float], None]) -> None:
    """Fit both heads together; `report` gets each epoch's number and mean loss."""
    generator = torch.Generator().manual_seed(seed)
    network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    frames = torch.from_numpy(data.frames)[:, None]
    planes, brain_planes = torch.from_numpy(data.planes), torch.from_numpy(data.brain_planes)
    steps = len(data) // recipe.batch
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(data), generator=generator)
        total = 0.0
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = _rate(recipe, epoch * steps + step, recipe.epochs * steps)
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            batch = frames[chosen]
            batch = batch + recipe.noise * torch.randn(batch.shape, generator=generator)
            # Half the arithmetic's width halves the time; weights and optimiser stay in f32.
            with torch.autocast("cpu", torch.bfloat16):
                outputs = network(batch.contiguous(memory_format=torch.channels_last))
            loss = _loss(outputs, planes[chosen], brain_planes[chosen], recipe.smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        report(epoch, total / steps)
    network.eval()


def run(network: PlaneNetwork, frames: NDArray[np.float32]) -> EngineOutput:
    """Return the network's outputs on prepared frames, [frames, rows, columns], in f32."""
    network.eval()
    batches = []
    with torch.inference_mode():
        for start in range(0, len(frames), _EVALUATION_BATCH):
            outputs = network(torch.from_numpy(frames[start : start + _EVALUATION_BATCH])[:, None])
            batches.append(EngineOutput(*(np.ascontiguousarray(tensor.numpy()) for tensor in outputs)))
    return join_outputs(batches)


def _loss(outputs: Outputs, planes: torch.Tensor, brain_planes: torch.Tensor, smoothing: float) -> torch.Tensor:
    loss = functional.cross_entropy(outputs.logits.float(), planes, label_smoothing=smoothing)
    if bool((brain_planes != NO_BRAIN).any()):
        logits = outputs.brain_logits.float()
        loss = loss + functional.cross_entropy(logits, brain_planes, ignore_index=NO_BRAIN, label_smoothing=smoothing)
    return loss


def _rate(recipe: Recipe, step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
