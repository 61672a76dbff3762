"""The statuses that a C-STORE is answered with (PS3.4 table B.2-1, PS3.7 section 9.1.1.1.9)."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Status"]


class Status(IntEnum):
    """A status, as it goes into (0000,0900)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    INVALID_INSTANCE = 0x0117
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    DATASET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TOO_LONG = 0xC001

    @property
    def comment(self) -> str:
        """Error Comment (0000,0902): at most 64 characters."""
        return _COMMENTS.get(self, "")


_COMMENTS = {
    Status.PROCESSING_FAILURE: "An error of this system, see its log",
    Status.INVALID_INSTANCE: "Affected SOP Instance UID is malformed",
    Status.SOP_CLASS_NOT_SUPPORTED: "SOP class is not that of the presentation context",
    Status.NOT_AUTHORISED: "Source is not listed any more",
    Status.OUT_OF_RESOURCES: "Store is full or away, send again later",
    Status.DATASET_MISMATCH: "Dataset names another SOP class or instance than the request",
    Status.CANNOT_UNDERSTAND: "UIDs of instance, series or study are not readable",
    Status.TOO_LONG: "Dataset is longer than this system accepts",
}
