"""Checkpoints: all that a fitting is made of, so that one that was killed goes on as if nothing had been."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

__all__ = ["Checkpoints", "State"]

_NAME: Final = "checkpoint.pt"


@dataclass(kw_only=True)
class State:
    """Where a fitting stands.

    Parameters
    ----------
    epoch, step
        What comes next; the step is that within the epoch.
    loss
        Sum of the losses of this epoch's steps so far.
    best
        Weights of the epoch with the highest macro-F1 on the validation images; empty before the first.
    best_score, best_epoch
        That figure, and that epoch.
    history
        Figures of each epoch that has ended, by name.
    seconds
        Time spent until the last checkpoint, before this process.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    best_score: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class Checkpoints:
    """The one checkpoint of a run, replaced in one step: after a crash the file is the last one or the one before.

    Parameters
    ----------
    folder
        Folder of the run.
    identity
        Digest of all that decides the run; a checkpoint of another is refused.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._path, self._identity = folder / _NAME, identity

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._path.exists()

    def remove(self) -> None:
        """Remove it, so that the run begins anew."""
        self._path.unlink(missing_ok=True)

    def save(self, state: State, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Write a checkpoint durably."""
        content = {
            "identity": self._identity,
            "state": vars(state),
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> State:
        """Bring network, optimiser and random numbers to where the checkpoint left them; a new state where there is none.

        Raises
        ------
        SettingsError
            If the checkpoint is that of another recipe, data set, code or initial weights.
        """
        if not self.exists:
            return State()
        content = torch.load(self._path, map_location="cpu", weights_only=True)
        if content["identity"] != self._identity:
            msg = "Expected a checkpoint of this recipe, data, code and start, got another's; train into another folder"
            raise SettingsError(msg)
        network.load_state_dict(content["network"])
        optimiser.load_state_dict(content["optimiser"])
        torch.set_rng_state(content["random"])
        if content["cuda"] and torch.cuda.device_count() == len(content["cuda"]):
            torch.cuda.set_rng_state_all(content["cuda"])
        return State(**content["state"])
