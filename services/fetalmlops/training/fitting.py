"""Fitting a network, and running it over prepared frames."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from fetalmlops.domain.learning.predictions import NO_LABEL
from fetalmlops.domain.models.engine import EngineOutput, join_outputs
from fetalmlops.training.networks.stages import RATE_SHARE, frozen_stages, parameter_groups
from fetalmlops.training.recipe import Choice, TrainingPrecision
from fetalmlops.training.starting import weights_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from fetalmlops.training.checkpoints import Checkpoints, State
    from fetalmlops.training.loading.batches import Batch, Batches
    from fetalmlops.training.loading.frames import Frames
    from fetalmlops.training.networks import Outputs
    from fetalmlops.training.places import Place
    from fetalmlops.training.recipe import Fitting

__all__ = ["Watch", "fit", "run", "run_frames"]

_EVALUATION_BATCH = 64


class Watch(Protocol):
    """Is told how a fitting goes."""

    def step(self, done: int, of: int, loss: float) -> None:
        """Learn that a step has ended: how many have, of how many, and its loss."""

    def epoch(self, number: int, figures: dict[str, float]) -> None:
        """Learn that an epoch has ended, with these figures."""


def fit(
    network: nn.Module,
    batches: Batches,
    how: Fitting,
    place: Place,
    judge: Callable[[nn.Module], float],
    checkpoints: Checkpoints,
    watch: Watch,
) -> State:
    """Fit both heads together, from where the checkpoint stands.

    Parameters
    ----------
    network
        The network; it holds the last weights afterwards, the state the best.
    batches
        Training batches.
    how
        How to fit.
    place
        Where.
    judge
        Returns the figure by which the best epoch is chosen; run by the first process.
    checkpoints
        Where to go on from, and to write to.
    watch
        Is told how it goes.
    """
    network.to(place.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(parameter_groups(network, how), weight_decay=how.weight_decay)
    state = checkpoints.load(network, optimiser)
    trained = DistributedDataParallel(network) if place.world > 1 else network
    began, before, total = time.monotonic(), state.seconds, how.epochs * batches.steps
    while state.epoch < how.epochs:
        network.train()
        for stage in frozen_stages(network, how):
            stage.eval()
        for batch in batches.epoch(state.epoch, state.step):
            done = state.epoch * batches.steps + state.step
            loss = _step(trained, optimiser, batch, how, place, _rate(how, done, total))
            state.step, state.loss = state.step + 1, state.loss + loss
            watch.step(done + 1, total, loss)
            wanted = how.checkpoint_steps and state.step % how.checkpoint_steps == 0 and state.step < batches.steps
            if wanted and place.leads:
                checkpoints.save(replace(state, seconds=before + time.monotonic() - began), network, optimiser)
        _end_epoch(state, network, batches.steps, how, place, judge, watch)
        state.seconds = before + time.monotonic() - began
        if place.leads:
            checkpoints.save(state, network, optimiser)
        place.wait()
    return state


def run(network: nn.Module, frames: Frames, chosen: Sequence[int]) -> EngineOutput:
    """Return the network's outputs on some of the prepared frames, in f32."""
    starts = range(0, len(chosen), _EVALUATION_BATCH)
    return join_outputs(
        [run_frames(network, frames.batch(chosen[start : start + _EVALUATION_BATCH])) for start in starts]
    )


def run_frames(network: nn.Module, batch: NDArray[np.float32]) -> EngineOutput:
    """Return the network's outputs on a batch of frames that are ready for it, [frames, rows, columns], in f32."""
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        frames = torch.from_numpy(batch)[:, None].to(device)
        outputs = network(frames.contiguous(memory_format=torch.channels_last))
    return EngineOutput(*(np.ascontiguousarray(tensor.float().cpu().numpy()) for tensor in outputs))


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, batch: Batch, how: Fitting, place: Place, rate: float
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = rate * group[RATE_SHARE]
    frames = torch.from_numpy(batch.frames)[:, None].to(place.device, non_blocking=True)
    # Half the arithmetic's width halves the time; weights and optimiser stay in f32.
    with torch.autocast(place.device.type, torch.bfloat16, enabled=how.precision is TrainingPrecision.BF16):
        outputs = network(frames.contiguous(memory_format=torch.channels_last))
    planes, brain_planes = (torch.from_numpy(each).to(place.device) for each in (batch.planes, batch.brain_planes))
    loss = _loss(outputs, planes, brain_planes, how)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def _loss(outputs: Outputs, planes: torch.Tensor, brain_planes: torch.Tensor, how: Fitting) -> torch.Tensor:
    loss = functional.cross_entropy(outputs.logits.float(), planes, label_smoothing=how.smoothing)
    # A sum over what there is, so that a batch without a brain still has a gradient of 0 for every weight.
    brain = functional.cross_entropy(
        outputs.brain_logits.float(),
        brain_planes,
        ignore_index=NO_LABEL,
        label_smoothing=how.smoothing,
        reduction="sum",
    )
    return loss + how.brain_weight * brain / (brain_planes != NO_LABEL).sum().clamp(min=1)


def _end_epoch(
    state: State,
    network: nn.Module,
    steps: int,
    how: Fitting,
    place: Place,
    judge: Callable[[nn.Module], float],
    watch: Watch,
) -> None:
    figures = {"loss": state.loss / steps}
    if place.leads:
        figures["validation_macro_f1"] = score = judge(network)
        if how.choice is Choice.LAST or score > state.best_score:
            state.best, state.best_score, state.best_epoch = weights_of(network), score, state.epoch
        watch.epoch(state.epoch, figures)
    state.history.append(figures)
    state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0


def _rate(how: Fitting, step: int, steps: int) -> float:
    warm = max(1, round(steps * how.warmup))
    if step < warm:
        return how.learning_rate * (step + 1) / warm
    return how.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
