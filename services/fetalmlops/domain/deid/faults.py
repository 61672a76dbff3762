"""Why an instance is not de-identified: the reasons of imaging, and those that are de-identification's own."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.faults import Fault

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.refusals import RefusalDetails

__all__ = ["Refusal", "refuse"]


class Refusal(StrEnum):
    """Reason classes of de-identification, beside `Fault`."""

    IDENTITY = "identity"
    PIXELS_UNPROVEN = "pixels-unproven"
    RELEASE_INVALID = "release-invalid"
    RELEASE_MISSING = "release-missing"
    TEXT_FOUND = "text-found"
    UNSUPPORTED_SOP_CLASS = "unsupported-sop-class"


def refuse(
    message: str, reason: Refusal | Fault = Fault.UNDECODABLE, details: RefusalDetails | None = None
) -> NoReturn:
    """Raise the permanent error that sends an instance to quarantine."""
    raise PermanentError(message, reason=reason.value, details=details)
