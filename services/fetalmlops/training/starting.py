"""Weights to start from: those of a bundle, of an earlier training, or of the same network trained on other images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from fetalmlops.domain.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

__all__ = ["mixed", "start_from", "weights_of"]

_LEAST_SHARE: Final = 0.5
_COUNTERS: Final = "num_batches_tracked"


def start_from(network: nn.Module, data: bytes) -> tuple[int, int]:
    """Load the tensors of safetensors that fit a network by name and shape; what does not fit, such as a head, stays.

    Names may lack the prefix ``trunk.``, as those of networks of timm do. A first layer for colour is summed over its
    colours, which gives on a grey image what it gave on the same image in colour.

    Parameters
    ----------
    network
        The network; it is changed.
    data
        The file.

    Returns
    -------
    tuple[int, int]
        How many of the network's tensors were loaded, and how many it has.

    Raises
    ------
    ContractError
        If it is no safetensors, or fewer than half of the network's tensors are there: it is another network's.
    """
    try:
        found = load(data)
    except SafetensorError:
        msg = f"Expected weights as safetensors, got {len(data)} bytes that are not; add them by fetalmlops weights add"
        raise ContractError(msg, reason="weights") from None
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTERS)}
    fitting = {
        name: tensor for name, like in wanted.items() if (tensor := _fitted(_find(found, name), like)) is not None
    }
    if len(fitting) < _LEAST_SHARE * len(wanted):
        msg = f"Expected weights of this network, got {len(fitting)} of its {len(wanted)} tensors; name others"
        raise ContractError(msg, reason="weights")
    network.load_state_dict(fitting, strict=False)
    return len(fitting), len(wanted)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and running figures."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def mixed(ended: Mapping[str, Tensor], began: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return weights that lie between those at the end and those at the beginning, of which they have ``share``."""
    return {
        name: torch.lerp(tensor, began[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in ended.items()
    }


def _find(found: dict[str, Tensor], name: str) -> Tensor | None:
    bare = name.removeprefix("trunk.")
    # timm joins the levels of a densely connected network by _ where it returns features.
    for candidate in (name, bare, bare.replace("features_", "features.", 1)):
        if candidate in found:
            return found[candidate]
    return None


def _fitted(tensor: Tensor | None, like: Tensor) -> Tensor | None:
    if tensor is None:
        return None
    colours = 3
    if like.ndim == 4 and tensor.ndim == 4 and like.shape[1] == 1 and tensor.shape[1] == colours:
        tensor = tensor.sum(dim=1, keepdim=True)
    return tensor.to(torch.float32) if tensor.shape == like.shape else None
