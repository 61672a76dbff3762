"""What to simulate: the spec of one instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydicom import uid

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.simulation.identities import make_uid
from fetalmlops.domain.simulation.pixels import Layout
from fetalmlops.domain.simulation.scanners import SCANNERS, Scanner

__all__ = ["BurnIn", "InstanceSpec", "Kind"]


class Kind(StrEnum):
    """What an instance is: its SOP class."""

    ULTRASOUND = "ultrasound"
    ULTRASOUND_MULTIFRAME = "ultrasound-multiframe"
    ULTRASOUND_RETIRED = "ultrasound-retired"
    ULTRASOUND_MULTIFRAME_RETIRED = "ultrasound-multiframe-retired"
    SECONDARY_CAPTURE = "secondary-capture"
    SECONDARY_CAPTURE_GREY = "secondary-capture-multiframe-grey"
    SECONDARY_CAPTURE_COLOUR = "secondary-capture-multiframe-colour"
    BASIC_TEXT = "basic-text-report"
    COMPREHENSIVE = "comprehensive-report"


_SOP_CLASSES: dict[Kind, str] = {
    Kind.ULTRASOUND: uid.UltrasoundImageStorage,
    Kind.ULTRASOUND_MULTIFRAME: uid.UltrasoundMultiFrameImageStorage,
    Kind.ULTRASOUND_RETIRED: "1.2.840.10008.5.1.4.1.1.6",
    Kind.ULTRASOUND_MULTIFRAME_RETIRED: "1.2.840.10008.5.1.4.1.1.3",
    Kind.SECONDARY_CAPTURE: uid.SecondaryCaptureImageStorage,
    Kind.SECONDARY_CAPTURE_GREY: uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    Kind.SECONDARY_CAPTURE_COLOUR: uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    Kind.BASIC_TEXT: uid.BasicTextSRStorage,
    Kind.COMPREHENSIVE: uid.ComprehensiveSRStorage,
}
_REPORTS = frozenset({Kind.BASIC_TEXT, Kind.COMPREHENSIVE})
_MULTIFRAME = frozenset(
    {
        Kind.ULTRASOUND_MULTIFRAME,
        Kind.ULTRASOUND_MULTIFRAME_RETIRED,
        Kind.SECONDARY_CAPTURE_GREY,
        Kind.SECONDARY_CAPTURE_COLOUR,
    }
)


class BurnIn(StrEnum):
    """Where the patient's identity is burned into the pixels."""

    NONE = "none"
    OUTSIDE = "outside"
    INSIDE = "inside"


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """What to simulate. Equal specs give equal bytes.

    Parameters
    ----------
    plane, brain_plane
        What is shown; for a report, None is right for both.
    kind
        SOP class.
    scanner
        On whose screen.
    transfer_syntax
        Transfer syntax UID.
    layout
        How pixels are stored.
    frames
        Frames of a multi-frame kind.
    frame_ms
        Time between frames, ms.
    study
        Number of the study: patient, dates and UIDs follow from it.
    number
        Instance Number: with the study it decides UID and anatomy.
    burn_in
        Whether identity stands in the text band outside the region, also over the image, or nowhere.
    calipers
        Whether calipers stand in the image.
    regions
        Whether the header has a Sequence of Ultrasound Regions.
    """

    plane: Plane = Plane.BRAIN
    brain_plane: BrainPlane | None = None
    kind: Kind = Kind.ULTRASOUND
    scanner: Scanner = SCANNERS[0]
    transfer_syntax: str = uid.ExplicitVRLittleEndian
    layout: Layout = field(default_factory=Layout)
    frames: int = 1
    frame_ms: float = 33.0
    study: int = 0
    number: int = 1
    burn_in: BurnIn = BurnIn.OUTSIDE
    calipers: bool = False
    regions: bool = True

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.frames > 1 and self.kind not in _MULTIFRAME):
            msg = f"Expected 1 frame, or more of a multi-frame kind, got {self.frames} of {self.kind}; change one"
            raise ContractError(msg)
        if self.is_image:
            self.layout.check(self.transfer_syntax)

    @property
    def is_image(self) -> bool:
        """Whether the instance has pixels."""
        return self.kind not in _REPORTS

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return str(_SOP_CLASSES[self.kind])

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        return make_uid("instance", self.study, self.number)

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID."""
        return make_uid("study", self.study)

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID: one series for the images of a study, one for its reports."""
        return make_uid("series", self.study, "image" if self.is_image else "report")
