"""The pipelines that bundles may ask for, by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from fetalmlops.domain.errors import ContractError, SettingsError
from fetalmlops.domain.imaging.cleaning.colour import ColourFlow
from fetalmlops.domain.imaging.cleaning.overlays import OverlayRemoval
from fetalmlops.domain.imaging.geometry.sector import SectorSearch
from fetalmlops.domain.imaging.pipelines.harmonise import Harmonisation
from fetalmlops.domain.imaging.pipelines.normalize import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HARMONISED", "PIPELINES", "PLAIN", "find_pipeline", "pipeline_of"]

PLAIN = "plain"
"""Crop and shrink only: what the demonstration bundle was trained on."""

HARMONISED = "harmonised"
"""Every step: sector mask, colour, graphics and grey levels."""

PIPELINES: Mapping[str, Pipeline] = MappingProxyType(
    {
        PLAIN: Pipeline(),
        HARMONISED: Pipeline(
            version=2,
            layer_part=0.04,
            mask=SectorSearch(),
            colour=ColourFlow(),
            overlays=OverlayRemoval(),
            harmonisation=Harmonisation(),
        ),
    }
)
"""All named pipelines; what a name stands for never changes, a changed pipeline gets a new name."""


def pipeline_of(name: str, digest: str) -> Pipeline:
    """Return the pipeline that a bundle's manifest names.

    Raises
    ------
    ContractError
        If this version has no pipeline of that digest, which is one that makes the same frames.

    Examples
    --------
    >>> pipeline_of("plain", Pipeline().digest) == Pipeline()
    True
    """
    for pipeline in PIPELINES.values():
        if pipeline.digest == digest:
            return pipeline
    known = ", ".join(f"{name} {pipeline.digest[:12]}…" for name, pipeline in PIPELINES.items())
    msg = (
        f"Expected the normalisation {name} that the bundle was made for, of digest {digest[:12]}…, got others ({known}); "
        "use the release that made the bundle, or train it again"
    )
    raise ContractError(msg, reason="pipeline")


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
