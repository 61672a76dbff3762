"""Weights of other projects: torch state dicts, read without running any code of theirs, to safetensors."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["convert_state_dict"]

# What torch raises on files that are damaged or none of its own: measured by changing bytes of real ones.
_REFUSED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    OverflowError, struct.error)  # fmt: skip
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."


def convert_state_dict(path: Path) -> bytes:
    """Return the tensors of a torch file as safetensors, under their names.

    A dictionary that wraps the state dict under ``state_dict``, ``model_state_dict`` or ``model`` is unwrapped, and the
    ``module.`` of data-parallel training is taken off the names.

    Raises
    ------
    ContractError
        If torch cannot read it with ``weights_only``, or it holds no tensors (reason ``weights``).
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _REFUSED as error:
        msg = (
            f"Expected safetensors, or a torch state dict that needs no code to be read, got neither ({type(error).__name__}); "
            "save model.state_dict() alone"
        )
        raise ContractError(msg, reason="weights") from None
    tensors = _tensors(_unwrapped(loaded))
    if not tensors:
        msg = "Expected a state dict with tensors, got none; save model.state_dict()"
        raise ContractError(msg, reason="weights")
    return bytes(save(tensors))


def _unwrapped(loaded: Any) -> Any:
    for name in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            return loaded[name]
    return loaded


def _tensors(loaded: Any) -> dict[str, torch.Tensor]:
    if not isinstance(loaded, dict):
        return {}
    return {
        str(name).removeprefix(_PREFIX): value.detach().clone().contiguous()
        for name, value in loaded.items()
        if isinstance(value, torch.Tensor)
    }
