"""The ladder that proves pixels: ultrasound regions, else a profile of the device; and no text in what is kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.faults import Refusal, refuse
from fetalmlops.domain.deid.regions import validate_regions
from fetalmlops.domain.deid.rules import REGIONS_TAG, Kind
from fetalmlops.domain.deid.text import check_text
from fetalmlops.domain.deid.writer import text as encoded
from fetalmlops.domain.imaging.grey import Palette as Levels

if TYPE_CHECKING:
    from fetalmlops.domain.deid.devices import DeviceProfiles
    from fetalmlops.domain.deid.palette import Palette
    from fetalmlops.domain.deid.profile import RegionPolicy
    from fetalmlops.domain.deid.reader import Item
    from fetalmlops.domain.deid.regions import Rectangle
    from fetalmlops.domain.deid.text import TextCheck
    from fetalmlops.domain.deid.trust import TextVerdict
    from fetalmlops.domain.deid.writer import Attributes
    from fetalmlops.domain.imaging.layout import PixelLayout
    from fetalmlops.domain.imaging.source import FrameSource

__all__ = ["Proof", "prove_area", "prove_text"]

_DERIVATION = 0x0008_2111


@dataclass(frozen=True)
class Proof:
    """What proves the pixels of an instance: evidence for its report.

    Parameters
    ----------
    action
        The step of the ladder that held, as `Deidentification.pixel_action` says it.
    rectangles
        Areas that are kept.
    attributes
        The regions that describe them, where they are kept.
    device_profile
        Digest of the device profile that was used, or empty.
    text_verdict, text_passes, text_allowed
        As in `Deidentification`.
    """

    action: str = "none"
    rectangles: tuple[Rectangle, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    device_profile: str = ""
    text_verdict: str = ""
    text_passes: int = 0
    text_allowed: int = 0

    @property
    def marks(self) -> Attributes:
        """What the header has to say differently because of this proof."""
        if not self.device_profile:
            return {}
        return {_DERIVATION: ("ST", encoded("Pixels outside the picture areas of the device blanked"))}


def prove_area(
    dataset: Item,
    kind: Kind,
    layout: PixelLayout,
    policy: RegionPolicy,
    devices: DeviceProfiles,
    *,
    source_clean: bool,
) -> Proof:
    """Return which pixels may be kept, by the first step of the ladder that holds.

    Raises
    ------
    PermanentError
        If none does (reason ``pixels-unproven``).
    """
    regions = validate_regions(dataset.items.get(REGIONS_TAG, []), layout.rows, layout.columns, policy)
    if source_clean:
        return Proof("source_clean", ((0, 0, layout.columns, layout.rows),), regions.attributes)
    if regions.rectangles and kind is Kind.ULTRASOUND:
        return Proof("regions", regions.rectangles, regions.attributes)
    profile = devices.match(dataset, layout)
    if profile is None:
        refuse(
            "Expected valid ultrasound regions, a profile of the device, or a source declared clean, to prove which pixels "
            "show no identifier; got none: add a profile of the device, or declare the source clean",
            Refusal.PIXELS_UNPROVEN,
        )
    return Proof("device_profile", profile.rectangles, device_profile=profile.digest)


def prove_text(
    proof: Proof, check: TextCheck | None, verdict: TextVerdict, source: FrameSource, palette: Palette
) -> Proof:
    """Return the proof with what became of looking for text in its areas.

    Raises
    ------
    PermanentError
        If there is text that is not allowed (reason ``text-found``), or text is to be looked for and cannot be
        (``pixels-unproven``).
    """
    if check is None:
        if verdict.checks:
            refuse("Expected a text detector to check pixels with, got none; install it", Refusal.PIXELS_UNPROVEN)
        return proof
    if not verdict.checks:
        return replace(proof, text_verdict=verdict.value)
    evidence = check_text(check, source, proof.rectangles, Levels(palette.grey) if palette.grey.size else None)
    return replace(proof, text_verdict=verdict.value, text_passes=evidence.passes, text_allowed=evidence.allowed)
