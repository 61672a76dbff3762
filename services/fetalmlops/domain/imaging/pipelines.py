"""The pipelines that bundles may ask for, by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import SettingsError
from fetalmlops.domain.imaging.colour import ColourFlow
from fetalmlops.domain.imaging.harmonise import Harmonisation
from fetalmlops.domain.imaging.normalize import Pipeline
from fetalmlops.domain.imaging.overlays import OverlayRemoval
from fetalmlops.domain.imaging.sector import SectorSearch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HARMONISED", "PIPELINES", "PLAIN", "find_pipeline"]

PLAIN = "plain"
"""Crop and shrink only: what the demonstration bundle was trained on."""

HARMONISED = "harmonised"
"""Every step: sector mask, colour, graphics and grey levels."""

PIPELINES: Mapping[str, Pipeline] = MappingProxyType(
    {
        PLAIN: Pipeline(),
        HARMONISED: Pipeline(
            mask=SectorSearch(),
            colour=ColourFlow(),
            overlays=OverlayRemoval(),
            harmonisation=Harmonisation(),
        ),
    }
)
"""All named pipelines; what a name stands for never changes, a changed pipeline gets a new name."""


def find_pipeline(name: str) -> Pipeline:
    """Return the pipeline of a name.

    Raises
    ------
    SettingsError
        If there is none; the text lists those that exist.

    Examples
    --------
    >>> find_pipeline("plain") == Pipeline()
    True
    """
    if name not in PIPELINES:
        msg = f"Expected a pipeline among {', '.join(PIPELINES)}, got another; choose one of these"
        raise SettingsError(msg)
    return PIPELINES[name]
