"""Profiles: a named choice of rules, with a digest of all that decides the output."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from fetalmlops.domain.deid import rules

__all__ = ["PROFILES", "STREAM", "Profile", "RegionPolicy"]


@dataclass(frozen=True)
class RegionPolicy:
    """When ultrasound regions prove that the pixels within them hold the picture and not the screen around it.

    Parameters
    ----------
    formats
        Region Spatial Formats whose areas are kept: 2D, M-Mode, Spectral, Waveform; not Graphics, not None.
    most
        Most regions of one image.
    least_side
        Shortest side of a kept region in pixels.
    least_share, most_share
        Share of the image that the kept regions may cover. An image that is covered virtually whole proves nothing: its
        regions leave no room for the band in which scanners write the patient's name.
    """

    formats: tuple[int, ...] = (1, 2, 3, 4)
    most: int = 64
    least_side: int = 16
    least_share: float = 0.05
    most_share: float = 0.95


@dataclass(frozen=True)
class Profile:
    """What de-identification is to do.

    Parameters
    ----------
    name
        Name of the profile, part of every event about its outputs.
    version
        Raised with every change of behaviour that the rules' data does not show.
    regions
        When regions prove the pixels.
    """

    name: str
    version: int
    edition: str = rules.EDITION
    regions: RegionPolicy = field(default_factory=RegionPolicy)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the profile and of the rules' data."""
        data = (
            self,
            rules.SOP_CLASSES,
            rules.IMAGE,
            rules.REGION,
            rules.DOCUMENT,
            rules.EMPTIED,
            rules.DEFAULTS,
            [sorted(words) for words in rules.IMAGE_TYPE_WORDS],
        )
        return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()


STREAM = Profile(name="stream", version=1)
"""What the anonymizer runs: no dates, no text, identity to the vault."""

PROFILES = {profile.name: profile for profile in (STREAM,)}
"""All profiles by name."""
