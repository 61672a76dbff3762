"""Why files are refused, in words for those who mend it."""

from __future__ import annotations

from typing import NamedTuple

from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.imaging.faults import Fault

__all__ = ["DEADLINE", "DEADLY", "UNEXPECTED", "Explanation", "explain_reason"]

DEADLY = "deadly"
"""The file killed the process that read it, or took more memory than it may."""

DEADLINE = "deadline"
"""The file took more time than it may."""

UNEXPECTED = "unexpected"
"""The file met a defect of the software."""


class Explanation(NamedTuple):
    """What a reason means, and what to do about it."""

    meaning: str
    remedy: str


_EXPLANATIONS: dict[str, Explanation] = {
    Refusal.PIXELS_UNPROVEN: Explanation(
        "Nothing proves which pixels show no identifier: no valid ultrasound regions, and no profile of the device.",
        "Look at the proposed device profile, or make one; or have the scanner write its regions.",
    ),
    Refusal.TEXT_FOUND: Explanation(
        "Text other than measurements stands in the pixels that would be kept.",
        "Keep a smaller area by a profile of the device, or have the scanner burn nothing in.",
    ),
    Refusal.RELEASE_MISSING: Explanation(
        "A person released the image, but the record of it is not there.", "Release it again from the quarantine."
    ),
    Refusal.RELEASE_INVALID: Explanation(
        "The record of a person's release is broken, or is of another image.", "Release it again from the quarantine."
    ),
    Refusal.UNSUPPORTED_SOP_CLASS: Explanation(
        "The file is neither an ultrasound image, nor a secondary capture, nor a structured report.",
        "Do not send such files; nothing is lost by their refusal.",
    ),
    Refusal.IDENTITY: Explanation(
        "A UID of the instance, its series, its study or its class is missing or malformed.",
        "Have the system that wrote the file mend it.",
    ),
    Fault.UNDECODABLE: Explanation(
        "The file is broken: it cannot be read as DICOM, or a frame cannot be decoded.",
        "Send it again from where it came from; if that does not help, have it mended there.",
    ),
    Fault.NO_PIXEL_DATA: Explanation("The file is an image without pixels.", "Do not send such files."),
    Fault.FRAMES_INCONSISTENT: Explanation(
        "The pixels are not those that the header describes.", "Have the system that wrote the file mend it."
    ),
    Fault.UNSUPPORTED_TRANSFER_SYNTAX: Explanation(
        "The encoding of the pixels is not read, such as MPEG video.",
        "Have the source send uncompressed, JPEG, JPEG-LS, JPEG 2000 or RLE.",
    ),
    Fault.UNSUPPORTED_PIXEL_FORMAT: Explanation(
        "The format of the pixels is not read, such as signed or one-bit samples.", "Do not send such files."
    ),
    Fault.TOO_LARGE: Explanation("The file is larger than what is accepted.", "Have the source send shorter clips."),
    DEADLY: Explanation(
        "The file killed the process that read it, or took more memory than it may.",
        "Treat it with care: it may be made to crash decoders.",
    ),
    DEADLINE: Explanation("The file took more time than it may.", "Have the source send shorter clips."),
    UNEXPECTED: Explanation("The file met a defect of this software.", "Report it."),
}
_OTHER = Explanation("The file breaks a rule.", "Run fetalmlops deid on it to see which.")


def explain_reason(reason: str) -> Explanation:
    """Return what a reason means.

    Examples
    --------
    >>> explain_reason("identity").remedy
    'Have the system that wrote the file mend it.'
    """
    return _EXPLANATIONS.get(reason, _OTHER)
