"""The few tags that key an instance's event: identifiers become pseudonyms, equipment becomes a keyed identity.

Nothing else of a dataset is read here, and pixels never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from fetalmlops.domain.contracts.events import Context
from fetalmlops.domain.contracts.planes import Mode
from fetalmlops.domain.deid.files.reader import read_header
from fetalmlops.domain.deid.identity import read_identity

if TYPE_CHECKING:
    from fetalmlops.domain.contracts.identifiers import PseudonymKey
    from fetalmlops.domain.deid.files.reader import Item, Wanted
    from fetalmlops.listener.part10 import Provenance

__all__ = ["KEYING_TAGS", "Keying", "read_keying"]

_MANUFACTURER, _MODEL, _SERIAL, _SOFTWARE = 0x0008_0070, 0x0008_1090, 0x0018_1000, 0x0018_1020
_COLOUR_PRESENT = 0x0028_0014

KEYING_TAGS: dict[int, str] = {
    0x0008_0005: "Specific Character Set",
    0x0008_0016: "SOP Class UID",
    0x0008_0018: "SOP Instance UID",
    _MANUFACTURER: "Manufacturer",
    _MODEL: "Manufacturer's Model Name",
    0x0010_0020: "Patient ID",
    0x0010_0021: "Issuer of Patient ID",
    _SERIAL: "Device Serial Number",
    _SOFTWARE: "Software Versions",
    0x0020_000D: "Study Instance UID",
    0x0020_000E: "Series Instance UID",
    _COLOUR_PRESENT: "Ultrasound Color Data Present",
}
"""All that is read of a dataset."""

_WANTED: Wanted = dict.fromkeys(KEYING_TAGS)


@dataclass(frozen=True)
class Keying:
    """What keys an instance's event. The UID is the original one: it never leaves the listener."""

    context: Context
    sop_class_uid: str
    sop_instance_uid: str


def read_keying(file: IO[bytes], key: PseudonymKey, came: Provenance) -> Keying:
    """Read the keying tags of a Part 10 file.

    Parameters
    ----------
    file
        A seekable binary file.
    key
        The project's pseudonym key.
    came
        How the instance came.

    Raises
    ------
    PermanentError
        If they cannot be read, or one of the four UIDs is missing or malformed. Its text holds no value.
    """
    dataset = read_header(file, _WANTED, stop_after=_COLOUR_PRESENT).dataset
    identity = read_identity(dataset, key)
    manufacturer, model, serial, software = (_text(dataset, tag) for tag in (_MANUFACTURER, _MODEL, _SERIAL, _SOFTWARE))
    context = Context(
        project=came.project,
        source=came.source,
        site=came.site,
        purpose=came.purpose,
        lane=came.lane,
        mode=_mode(dataset),
        scanner=key.scanner(manufacturer, model, serial, software),
        software=key.software(manufacturer, model, software),
        patient=identity.pseudonyms.patient,
        study=identity.pseudonyms.study,
        series=identity.pseudonyms.series,
        instance=identity.pseudonyms.instance,
    )
    return Keying(context, identity.instance.sop_class_uid, identity.instance.uid)


def _text(dataset: Item, tag: int) -> str:
    """Return a text as it is compared: the same bytes are the same equipment, whatever their character set."""
    value = dataset.values.get(tag)
    return value.data.decode("latin-1").strip(" \0") if value else ""


def _mode(dataset: Item) -> Mode:
    value = dataset.values.get(_COLOUR_PRESENT)
    if value is None:
        return Mode.UNKNOWN
    present = int.from_bytes(value.data, "little" if value.little else "big")
    return {0: Mode.GREY, 1: Mode.COLOUR}.get(present, Mode.UNKNOWN)
