"""Which parts of a trunk are fitted, and how fast: what is near the input is the least worth changing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fetalmlops.domain.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from fetalmlops.training.recipe import Fitting

__all__ = ["RATE_SHARE", "frozen_stages", "parameter_groups"]

RATE_SHARE: Final = "rate_share"
"""Key, in a group of parameters, of its share of the learning rate."""


def frozen_stages(network: nn.Module, how: Fitting) -> list[nn.Module]:
    """Return the stages of a network's trunk that stay as they began.

    Raises
    ------
    SettingsError
        If the trunk has fewer stages.
    """
    stages = [*network.stages]
    if how.freeze > len(stages):
        msg = f"Expected fitting.freeze of at most {len(stages)}, the stages of this trunk, got {how.freeze}; mend the recipe"
        raise SettingsError(msg)
    return stages[: how.freeze]


def parameter_groups(network: nn.Module, how: Fitting) -> list[dict[str, Any]]:
    """Return the parameters to fit, those of the same rate together; those of frozen stages no longer take gradients.

    Parameters
    ----------
    network
        A network with ``stages``, parts of its trunk from the input on.
    how
        How it is fitted.

    Raises
    ------
    SettingsError
        If more stages are to be frozen than there are.
    """
    frozen, stages = len(frozen_stages(network, how)), [*network.stages]
    share_of: dict[nn.Parameter, float] = {}
    for index, stage in enumerate(stages):
        for parameter in stage.parameters():
            parameter.requires_grad_(index >= frozen)
            share_of[parameter] = how.stage_rate ** (len(stages) - 1 - index)
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault(share_of.get(parameter, 1.0), []).append(parameter)
    return [{"params": parameters, RATE_SHARE: share} for share, parameters in groups.items()]
