"""References to other instances: classes that are known, and keyed UIDs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fetalmlops.domain.contracts.sop_classes import STORAGE_CLASSES
from fetalmlops.domain.deid.files.writer import text
from fetalmlops.domain.deid.identity import is_uid
from fetalmlops.domain.deid.reports.codes import WORD_BYTES, word
from fetalmlops.domain.deid.rules.attributes import REFERENCES
from fetalmlops.domain.deid.rules.checks import Numbers, check_value

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item, Wanted
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.rules.codes import Codes

__all__ = [
    "EVIDENCE",
    "WANTED_EVIDENCE",
    "WANTED_REFERENCE",
    "KeyedUids",
    "clean_evidence",
    "clean_image_references",
    "clean_reference",
    "listed_instances",
    "referred_instance",
]

EVIDENCE = (0x0040_A375, 0x0040_A385)
"""Current Requested Procedure Evidence Sequence and Pertinent Other Evidence Sequence."""

_CLASS, _INSTANCE, _FRAMES = 0x0008_1150, 0x0008_1155, 0x0008_1160
_STUDY, _SERIES, _SERIES_ITEMS, _INSTANCE_ITEMS = 0x0020_000D, 0x0020_000E, 0x0008_1115, 0x0008_1199
_FRAME_BYTES = 4096
_FRAME_NUMBERS = Numbers(1, 100_000, 1, 512)

WANTED_REFERENCE: Wanted = {_CLASS: WORD_BYTES, _INSTANCE: WORD_BYTES, _FRAMES: _FRAME_BYTES}
"""What is read of a reference to an instance."""

WANTED_EVIDENCE: Wanted = {
    _STUDY: WORD_BYTES,
    _SERIES_ITEMS: {_SERIES: WORD_BYTES, _INSTANCE_ITEMS: {_CLASS: WORD_BYTES, _INSTANCE: WORD_BYTES}},
}
"""What is read of an item of `EVIDENCE`."""


@dataclass
class KeyedUids:
    """Gives UIDs their keyed ones, and remembers which it gave.

    Parameters
    ----------
    key
        Where they come from.
    given
        Keyed UID to original.
    """

    key: Codes
    given: dict[str, str] = field(default_factory=dict)

    def __call__(self, uid: str) -> bytes:
        """Return the keyed UID of another, encoded; empty if that is none."""
        if not is_uid(uid):
            return b""
        keyed = self.key.uid(uid)
        self.given[keyed] = uid
        return text(keyed)


def clean_reference(item: Item, uids: KeyedUids) -> Attributes | None:
    """Return a reference to an instance of a known class, None if it is none."""
    sop_class = word(item, _CLASS)
    instance = uids(word(item, _INSTANCE)) if sop_class in STORAGE_CLASSES else b""
    if not instance:
        return None
    clean: Attributes = {_CLASS: ("UI", text(sop_class)), _INSTANCE: ("UI", instance)}
    if _FRAMES in item.values:
        frames = check_value("IS", _FRAME_NUMBERS, item.values[_FRAMES])
        if frames is None:
            return None
        clean[_FRAMES] = ("IS", frames.data)
    return clean


def referred_instance(item: Item) -> str:
    """Return the original UID of the instance that is referred to, empty if there is none."""
    return word(item, _INSTANCE)


def clean_evidence(dataset: Item, uids: KeyedUids) -> Attributes:
    """Return a document's lists of evidence: studies, series and instances of known classes, those that hold any."""
    found = {
        tag: [clean for item in dataset.items.get(tag, ()) if (clean := _study(item, uids)) is not None]
        for tag in EVIDENCE
    }
    return {tag: ("SQ", items) for tag, items in found.items() if items}


def listed_instances(evidence: Attributes, uids: KeyedUids) -> frozenset[str]:
    """Return the original UIDs of the instances that clean evidence lists."""
    instances = (
        instance[_INSTANCE][1]
        for study in _items(evidence, *EVIDENCE)
        for series in _items(study, _SERIES_ITEMS)
        for instance in _items(series, _INSTANCE_ITEMS)
    )
    return frozenset(uids.given[keyed.decode("ascii")] for keyed in instances if isinstance(keyed, bytes))


def _items(attributes: Attributes, *tags: int) -> list[Attributes]:
    found = (attributes[tag][1] for tag in tags if tag in attributes)
    return [item for value in found if isinstance(value, list) for item in value]


def clean_image_references(dataset: Item, uids: KeyedUids) -> Attributes:
    """Return an image's references to the images that it was made from or goes with."""
    found = {
        tag: [clean for item in dataset.items.get(tag, ()) if (clean := clean_reference(item, uids)) is not None]
        for tag in REFERENCES
    }
    return {tag: ("SQ", items) for tag, items in found.items() if items}


def _study(item: Item, uids: KeyedUids) -> Attributes | None:
    series = [clean for inner in item.items.get(_SERIES_ITEMS, ()) if (clean := _series(inner, uids)) is not None]
    study = uids(word(item, _STUDY)) if series else b""
    return {_STUDY: ("UI", study), _SERIES_ITEMS: ("SQ", series)} if study else None


def _series(item: Item, uids: KeyedUids) -> Attributes | None:
    inner = item.items.get(_INSTANCE_ITEMS, ())
    instances = [clean for entry in inner if (clean := clean_reference(entry, uids)) is not None]
    series = uids(word(item, _SERIES)) if instances else b""
    return {_SERIES: ("UI", series), _INSTANCE_ITEMS: ("SQ", instances)} if series else None
