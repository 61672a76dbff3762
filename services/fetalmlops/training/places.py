"""Where a training runs: on the CPU or on GPUs, in one process or in several that ``torchrun`` has started."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Place", "joined"]


@dataclass(frozen=True)
class Place:
    """Where this process trains.

    Parameters
    ----------
    device
        Where tensors lie.
    rank, world
        Which of how many processes this is; the first writes files and reports.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the first."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[Place]:
    """Join the processes that torchrun has started, if it has."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if world == 1:
        yield Place(device)
        return
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Place(device, rank, world)
    finally:
        distributed.destroy_process_group()
