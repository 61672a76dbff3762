"""What is negotiated, as data: who we are and which presentation contexts are accepted. docs/conformance.md states the same.

Every ultrasound, secondary capture and structured report class goes with every transfer syntax that the later stages decode.
Video is not among them: an object that could never be processed is refused at the door.
"""

from __future__ import annotations

from functools import cache

from pydicom import uid
from pynetdicom.presentation import PresentationContext, build_context

from fetalmlops import __version__
from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES

__all__ = [
    "APPLICATION_CONTEXT",
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION",
    "TRANSFER_SYNTAXES",
    "VERIFICATION",
    "VERIFICATION_SYNTAXES",
    "supported_contexts",
]

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""The DICOM Application Context Name (PS3.7 Annex A.2.1)."""

IMPLEMENTATION_CLASS_UID = "2.25.191531533984176674762499671870767078517"
"""Names this implementation in negotiations and in file meta information."""

IMPLEMENTATION_VERSION = f"FETALMLOPS_{'_'.join(__version__.split('.')[:2])}"
"""Names its version: at most 16 characters."""

VERIFICATION = "1.2.840.10008.1.1"
"""Verification SOP Class (C-ECHO)."""

VERIFICATION_SYNTAXES: tuple[str, ...] = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
"""Transfer syntaxes of Verification, which has no dataset."""

TRANSFER_SYNTAXES: tuple[str, ...] = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.RLELossless,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
"""Transfer syntaxes of storage. Where a caller offers several in one context, the first of these is chosen: one that every
caller can produce comes first, what would lose detail comes after what does not."""


@cache
def supported_contexts() -> tuple[PresentationContext, ...]:
    """Return the presentation contexts for the negotiation."""
    contexts = [build_context(VERIFICATION, list(VERIFICATION_SYNTAXES))]
    contexts += [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in STORAGE_CLASSES]
    return tuple(contexts)
