"""The tables of the DICOM conformance statement, made from what the code does.

``python -m fetalmlops.listener.conformance docs/conformance.md`` brings the tables of the document up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.uid import UID

from fetalmlops.domain.contracts.sop_classes import IMAGE_CLASSES, STORAGE_CLASSES
from fetalmlops.listener.contexts import (
    APPLICATION_CONTEXT,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    VERIFICATION_SYNTAXES,
)
from fetalmlops.listener.keying import KEYING_TAGS
from fetalmlops.listener.part10 import PRIVATE_CREATOR
from fetalmlops.listener.scp import Abort, Rejection
from fetalmlops.listener.statuses import Status
from fetalmlops.platform.documents import fill, table
from fetalmlops.platform.settings import ListenerSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TABLES"]

_REJECTIONS = {
    Rejection.CALLING_AE_UNKNOWN: "The calling AE title or address is not in the sources table",
    Rejection.CALLED_AE_UNKNOWN: "The called AE title is not ours",
    Rejection.APPLICATION_CONTEXT: "The application context is not the DICOM one",
    Rejection.PROTOCOL_VERSION: "The protocol version is not 1",
    Rejection.TOO_MANY: "As many associations as are allowed are open",
}
_RESULTS = {1: "1 (rejected-permanent)", 2: "2 (rejected-transient)"}
_SOURCES = {1: "1 (service-user)", 2: "2 (ACSE)", 3: "3 (presentation)"}
_ABORT_SOURCES = {0: "0 (service-user)", 2: "2 (service-provider)"}
_ABORTS = {
    Abort.BY_USER: "Before the association: anything but a proper A-ASSOCIATE-RQ. On it: a request that is incomplete, in "
    "no accepted context or of another service; silence; or the listener stops",
    Abort.BY_PROVIDER: "On an association: a PDU that is unknown, malformed, out of place or longer than agreed; a message "
    "that cannot be read, takes too long, breaks off, or has a dataset and is no C-STORE of a storage class",
}
_MEANINGS = {
    Status.SUCCESS: ("Success", "The instance is durable; or the same content is already"),
    Status.PROCESSING_FAILURE: ("Failure", "A defect of this system"),
    Status.INVALID_INSTANCE: ("Failure", "The request's SOP Instance UID is malformed"),
    Status.SOP_CLASS_NOT_SUPPORTED: (
        "Failure",
        "The request's SOP class is another storage class than that of its presentation context",
    ),
    Status.NOT_AUTHORISED: ("Failure", "The source was struck off the table while the association was open"),
    Status.OUT_OF_RESOURCES: ("Refused", "The store is away, or has no more room than its reserve; send again later"),
    Status.DATASET_MISMATCH: ("Error", "The dataset names another SOP class or instance than the request"),
    Status.CANNOT_UNDERSTAND: ("Error", "The tags that key the instance cannot be read; it is kept in quarantine"),
    Status.TOO_LONG: ("Error", "The dataset is longer than is accepted; it is not kept"),
}
_PARAMETERS = {
    "max_pdu_bytes": ("Maximum PDU size received", "bytes"),
    "max_associations": ("Simultaneous associations", ""),
    "max_instance_bytes": ("Longest dataset", "bytes"),
    "acse_timeout_s": ("Silence during the negotiation", "s"),
    "network_timeout_s": ("Silence on an association", "s"),
    "dimse_timeout_s": ("Time for one message, plus 16 s for each MiB received", "s"),
    "port": ("TCP port", ""),
}


def _storage() -> str:
    rows = [
        (name, f"`{uid}`", "No", "Yes", "image" if uid in IMAGE_CLASSES else "document")
        for uid, name in STORAGE_CLASSES.items()
    ]
    return table(("SOP class", "UID", "User (SCU)", "Provider (SCP)", "Result"), rows)


def _contexts() -> str:
    rows = [
        ("Verification", f"`{VERIFICATION}`", _names(VERIFICATION_SYNTAXES), "SCP", "None"),
        ("Each storage SOP class of section 1", "see there", "see the next table", "SCP", "None"),
    ]
    return table(("Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation"), rows)


def _transfer_syntaxes() -> str:
    rows = [(str(number), UID(uid).name, f"`{uid}`") for number, uid in enumerate(TRANSFER_SYNTAXES, start=1)]
    return table(("Order of choice", "Transfer syntax", "UID"), rows)


def _statuses() -> str:
    rows = [
        (_MEANINGS[status][0], f"0x{status:04X}", _MEANINGS[status][1], status.comment or "none") for status in Status
    ]
    return table(("Service status", "Code", "When", "Error Comment (0000,0902)"), rows)


def _rejections() -> str:
    rows = [
        (_RESULTS[item.value[0]], _SOURCES[item.value[1]], str(item.value[2]), _REJECTIONS[item]) for item in Rejection
    ]
    return table(("Result", "Source", "Reason", "When"), rows)


def _aborts() -> str:
    rows = [(_ABORT_SOURCES[item.value[0]], str(item.value[1]), _ABORTS[item]) for item in Abort]
    return table(("Source", "Reason", "When"), rows)


def _implementation() -> str:
    rows = [
        ("Application context name", f"`{APPLICATION_CONTEXT}`"),
        ("Implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation version name", f"`{IMPLEMENTATION_VERSION}`"),
        ("Private information creator UID (0002,0100)", f"`{PRIVATE_CREATOR}`"),
    ]
    return table(("Item", "Value"), rows)


def _parameters() -> str:
    defaults = ListenerSettings()
    rows = [
        (what, f"`listener.{name}`", f"{getattr(defaults, name):,} {unit}".strip())
        for name, (what, unit) in _PARAMETERS.items()
    ]
    return table(("Parameter", "Setting", "Default"), rows)


def _keying_tags() -> str:
    rows = [(name, f"({tag >> 16:04X},{tag & 0xFFFF:04X})") for tag, name in sorted(KEYING_TAGS.items())]
    return table(("Attribute", "Tag"), rows)


TABLES = {
    "storage": _storage,
    "contexts": _contexts,
    "transfer-syntaxes": _transfer_syntaxes,
    "statuses": _statuses,
    "rejections": _rejections,
    "aborts": _aborts,
    "implementation": _implementation,
    "parameters": _parameters,
    "keying-tags": _keying_tags,
}
"""Name of a table in the document to what makes it."""


def _names(syntaxes: Iterable[str]) -> str:
    return ", ".join(UID(uid).name for uid in syntaxes)


if __name__ == "__main__":
    for place in sys.argv[1:]:
        path = Path(place)
        path.write_text(fill(path.read_text("utf-8"), TABLES), "utf-8")
