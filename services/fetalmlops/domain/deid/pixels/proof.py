"""The ladder that proves pixels: ultrasound regions, else a profile of the device; and no text in what is kept.

A person's release of one image goes before all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.refusals import RefusalDetails
from fetalmlops.domain.deid.faults import Refusal, refuse
from fetalmlops.domain.deid.files.writer import text as encoded
from fetalmlops.domain.deid.pixels.regions import RegionFlaw, validate_regions
from fetalmlops.domain.deid.pixels.search import TextSearch
from fetalmlops.domain.deid.rules.attributes import REGIONS_TAG, Kind

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
    from fetalmlops.domain.deid.pixels.palette import Palette
    from fetalmlops.domain.deid.pixels.regions import Rectangle, Regions
    from fetalmlops.domain.deid.pixels.release import Release
    from fetalmlops.domain.deid.pixels.text import TextCheck
    from fetalmlops.domain.deid.pixels.trust import TextVerdict
    from fetalmlops.domain.deid.rules.profile import RegionPolicy
    from fetalmlops.domain.imaging.layout import PixelLayout

__all__ = ["Proof", "prove_area", "prove_text"]

_DERIVATION = 0x0008_2111
_NOT_ULTRASOUND = "not-an-ultrasound-image"


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
    release
        Digest of the record of a person's release, or empty.
    text_verdict, text_passes, text_allowed, text_overruled
        As in `Deidentification`.
    search
        The search for text that is to watch the frames as they are written, where one is.
    """

    action: str = "none"
    rectangles: tuple[Rectangle, ...] = ()
    attributes: Attributes = field(default_factory=dict)
    device_profile: str = ""
    release: str = ""
    text_verdict: str = ""
    text_passes: int = 0
    text_allowed: int = 0
    text_overruled: int = 0
    search: TextSearch | None = None

    @property
    def marks(self) -> Attributes:
        """What the header has to say differently because of this proof."""
        if self.release:
            return {_DERIVATION: ("ST", encoded("Pixels outside the areas that a person released blanked"))}
        if self.device_profile:
            return {_DERIVATION: ("ST", encoded("Pixels outside the picture areas of the device blanked"))}
        return {}

    def searched(self) -> Proof:
        """Return the proof once all frames are written, with what became of the search.

        Raises
        ------
        PermanentError
            If there is text that is not allowed (reason ``text-found``).
        """
        if self.search is None:
            return self
        evidence = self.search.finish()
        return replace(
            self,
            text_passes=evidence.passes,
            text_allowed=evidence.allowed,
            text_overruled=evidence.overruled,
            search=None,
        )


def prove_area(
    dataset: Item,
    kind: Kind,
    layout: PixelLayout,
    policy: RegionPolicy,
    devices: DeviceProfiles,
    *,
    source_clean: bool,
    release: Release | None = None,
) -> Proof:
    """Return which pixels may be kept: by a person's release, else by the first step of the ladder that holds.

    Raises
    ------
    PermanentError
        If none does (reason ``pixels-unproven``, the details say why), or the release is of an image of another size or leaves
        nothing (``release-invalid``).
    """
    regions = validate_regions(dataset.items.get(REGIONS_TAG, []), layout.rows, layout.columns, policy)
    if release is None:
        return _climb(dataset, kind, layout, devices, regions, source_clean=source_clean)
    if (release.rows, release.columns) != (layout.rows, layout.columns):
        refuse("Expected a release of an image of this size, got another; release it again", Refusal.RELEASE_INVALID)
    if release.keep:
        base = Proof(attributes=regions.attributes)
    else:
        base = _climb(dataset, kind, layout, devices, regions, source_clean=False)
    areas = release.areas(base.rectangles)
    if not areas:
        refuse("Expected a release that leaves something, got one that blanks all", Refusal.RELEASE_INVALID)
    return replace(base, action="person_mask", rectangles=areas, release=release.digest)


def _climb(
    dataset: Item,
    kind: Kind,
    layout: PixelLayout,
    devices: DeviceProfiles,
    regions: Regions,
    *,
    source_clean: bool,
) -> Proof:
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
            RefusalDetails(
                code=regions.flaw.value if regions.flaw is not RegionFlaw.NONE else _NOT_ULTRASOUND,
                rows=layout.rows,
                columns=layout.columns,
                frames=layout.frames,
            ),
        )
    return Proof("device_profile", profile.rectangles, device_profile=profile.digest)


def prove_text(proof: Proof, check: TextCheck | None, verdict: TextVerdict | None, palette: Palette) -> Proof:
    """Return the proof with the search for text in its areas that the verdict asks for; None where nobody asks for any.

    A person's word goes before the detector's: what is found in released areas is counted only.

    Raises
    ------
    PermanentError
        If text is to be looked for and cannot be (reason ``pixels-unproven``).
    """
    if verdict is None:
        return proof
    if not verdict.checks:
        return replace(proof, text_verdict=verdict.value)
    if check is None:
        refuse("Expected a text detector to check pixels with, got none; install it", Refusal.PIXELS_UNPROVEN)
    colours = palette.colours if palette.colours.size else None
    search = TextSearch(check, proof.rectangles, colours, overruled=bool(proof.release))
    return replace(proof, text_verdict=verdict.value, search=search)
