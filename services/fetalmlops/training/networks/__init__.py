"""The networks that a recipe may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.planes import BRAIN_PLANES, PLANES
from fetalmlops.domain.errors import SettingsError
from fetalmlops.training.networks.outputs import Outputs
from fetalmlops.training.networks.residual import PlaneNetwork
from fetalmlops.training.networks.sononet import SONONET, SonoNetNetwork

if TYPE_CHECKING:
    from torch import nn

    from fetalmlops.training.recipe import NetworkEntry

__all__ = ["RESIDUAL", "SONONET", "Outputs", "make_network"]

RESIDUAL = "residual"
"""Name of the small residual network."""


def make_network(entry: NetworkEntry) -> nn.Module:
    """Return a network with random weights, drawn from torch's generator.

    Raises
    ------
    SettingsError
        If there is no network of that name; the text lists those that exist.
    """
    from fetalmlops.training.networks.backbones import BACKBONES, BackboneNetwork

    if entry.name == RESIDUAL:
        return PlaneNetwork(len(PLANES), len(BRAIN_PLANES), entry.widths)
    if entry.name == SONONET:
        return SonoNetNetwork(len(PLANES), len(BRAIN_PLANES))
    if entry.name in BACKBONES:
        return BackboneNetwork(entry.name, len(PLANES), len(BRAIN_PLANES))
    msg = f"Expected a network among {', '.join((RESIDUAL, SONONET, *BACKBONES))}, got another; mend the recipe"
    raise SettingsError(msg)
