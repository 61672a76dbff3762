"""Content items: what is read of one, and how the value of each type is kept."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.files.writer import text
from fetalmlops.domain.deid.reports.codes import WANTED_CODE, WORD_BYTES, encode_code, read_code, word
from fetalmlops.domain.deid.reports.references import (
    EVIDENCE,
    WANTED_EVIDENCE,
    WANTED_REFERENCE,
    KeyedUids,
    clean_reference,
    referred_instance,
)
from fetalmlops.domain.deid.rules import content as rules_of
from fetalmlops.domain.deid.rules.checks import Context, Moments, Numbers, check_value
from fetalmlops.domain.deid.rules.concepts import known_concepts

if TYPE_CHECKING:
    from fetalmlops.domain.deid.files.reader import Item, Wanted
    from fetalmlops.domain.deid.files.writer import Attributes
    from fetalmlops.domain.deid.rules.concepts import Known

__all__ = [
    "CONTENT",
    "CONTINUITY",
    "MAPPING_RESOURCE",
    "NAME",
    "RELATION",
    "TEMPLATE",
    "TEMPLATE_IDENTIFIER",
    "VALUE_TYPE",
    "WANTED_DOCUMENT",
    "Rules",
    "clean_value",
    "is_hidden",
]

RELATION, VALUE_TYPE, NAME = 0x0040_A010, 0x0040_A040, 0x0040_A043
CONTINUITY, TEMPLATE, CONTENT = 0x0040_A050, 0x0040_A504, 0x0040_A730
MAPPING_RESOURCE, TEMPLATE_IDENTIFIER = 0x0008_0105, 0x0040_DB00
_MEASURED, _NUMBER, _UNIT = 0x0040_A300, 0x0040_A30A, 0x0040_08EA
_CODE, _TEXT, _UID, _REFERENCE = 0x0040_A168, 0x0040_A160, 0x0040_A124, 0x0008_1199
_GRAPHIC_DATA, _GRAPHIC_TYPE = 0x0070_0022, 0x0070_0023
_SUBJECT_AGE = ("DCM", "121033")
_WORDS = re.compile(r"[a-z]+")

_ITEM: Wanted = {
    **dict.fromkeys((RELATION, VALUE_TYPE, CONTINUITY, _UID, _TEXT, _GRAPHIC_TYPE), WORD_BYTES),
    **{tag: WORD_BYTES for tag, _ in rules_of.DATED.values()},
    NAME: WANTED_CODE,
    _CODE: WANTED_CODE,
    TEMPLATE: {MAPPING_RESOURCE: WORD_BYTES, TEMPLATE_IDENTIFIER: WORD_BYTES},
    _MEASURED: {_NUMBER: WORD_BYTES, _UNIT: WANTED_CODE},
    _REFERENCE: WANTED_REFERENCE,
    _GRAPHIC_DATA: 4 * max(most for _, most in rules_of.GRAPHICS.values()),
}
_ITEM[CONTENT] = _ITEM

WANTED_DOCUMENT: Wanted = {
    **{tag: _ITEM[tag] for tag in (VALUE_TYPE, CONTINUITY, NAME, TEMPLATE, CONTENT)},
    **dict.fromkeys(EVIDENCE, WANTED_EVIDENCE),
}
"""What is read of a document's content; content items hold content items, to the reader's depth."""


@dataclass(frozen=True)
class Rules:
    """What holds for the content of one instance.

    Parameters
    ----------
    context
        The policy of dates.
    uids
        Where keyed UIDs come from.
    keeps_patient
        Whether sex, age and size of the patient stay.
    listed
        Instances that the document's evidence lists: only these may be referred to (PS3.3 C.17.2.3).
    """

    context: Context
    uids: KeyedUids
    keeps_patient: bool = False
    listed: frozenset[str] = frozenset()


def is_hidden(name: Known, rules: Rules) -> bool:
    """Return whether a concept names somebody, or tells of the patient what the profile does not keep."""
    key = name.scheme, name.value
    if key in rules_of.PATIENT_CONCEPTS:
        return not rules.keeps_patient
    if key in rules_of.LABELLED | rules_of.TRACKED:
        return False
    words = _WORDS.findall(name.meaning.lower().replace("number of ", ""))
    return not rules_of.HIDDEN_WORDS.isdisjoint(words)


def clean_value(item: Item, value_type: str, name: Known | None, rules: Rules) -> Attributes | None:
    """Return the value of a content item that is no container, as it may be kept; None if it must not be.

    Parameters
    ----------
    item
        The content item as read.
    value_type
        Its Value Type (PS3.3 C.17.3.2.1).
    name
        Its concept, None if that is not known; only references and coordinates may be without one.
    rules
        What holds for this instance.
    """
    if value_type in rules_of.REFERENCE_TYPES:
        return _reference(item, rules)
    if value_type == "SCOORD":
        return _coordinates(item)
    if name is None:
        return None
    if value_type in rules_of.DATED:
        return _moment(item, value_type, rules)
    match value_type:
        case "NUM":
            return _number(item, name)
        case "CODE":
            code = read_code(item, _CODE, known_concepts())
            return None if code is None else {_CODE: ("SQ", encode_code(code))}
        case "TEXT":
            return _label(item, name)
        case "UIDREF" if (name.scheme, name.value) in rules_of.TRACKED:
            uid = rules.uids(word(item, _UID))
            return {_UID: ("UI", uid)} if uid else None
    return None


def _number(item: Item, name: Known) -> Attributes | None:
    measured = item.items.get(_MEASURED, ())
    if len(measured) != 1 or _NUMBER not in measured[0].values:
        return None
    unit = read_code(measured[0], _UNIT, known_concepts())
    if unit is None or unit.scheme != "UCUM":
        return None
    most = rules_of.UNIT_LIMITS.get(unit.value, rules_of.MOST_NUMBER)
    if (name.scheme, name.value) == _SUBJECT_AGE:
        most = rules_of.OLDEST.get(unit.value, 0)
    number = check_value("DS", Numbers(-most, most), measured[0].values[_NUMBER])
    if number is None:
        return None
    return {_MEASURED: ("SQ", [{_NUMBER: ("DS", number.data), _UNIT: ("SQ", encode_code(unit))}])}


def _label(item: Item, name: Known) -> Attributes | None:
    label = word(item, _TEXT)
    if (name.scheme, name.value) not in rules_of.LABELLED or label not in rules_of.LABELS:
        return None
    return {_TEXT: ("UT", text(label))}


def _moment(item: Item, value_type: str, rules: Rules) -> Attributes | None:
    tag, vr = rules_of.DATED[value_type]
    value = item.values.get(tag)
    kept = None if value is None else check_value(vr, Moments(), value, rules.context)
    return None if kept is None or len(kept.words) != 1 else {tag: (vr, kept.data)}


def _reference(item: Item, rules: Rules) -> Attributes | None:
    entries = item.items.get(_REFERENCE, ())
    if len(entries) != 1 or referred_instance(entries[0]) not in rules.listed:
        return None
    reference = clean_reference(entries[0], rules.uids)
    return None if reference is None else {_REFERENCE: ("SQ", [reference])}


def _coordinates(item: Item) -> Attributes | None:
    kind = word(item, _GRAPHIC_TYPE)
    least, most = rules_of.GRAPHICS.get(kind, (0, 0))
    value = item.values.get(_GRAPHIC_DATA)
    numbers = None if value is None else check_value("FL", Numbers(0, rules_of.ON_SCREEN, least, most), value)
    if not most or numbers is None or len(numbers.numbers) % 2:
        return None
    points = [round(number * rules_of.STEPS) / rules_of.STEPS for number in numbers.numbers]
    return {_GRAPHIC_DATA: ("FL", struct.pack(f"<{len(points)}f", *points)), _GRAPHIC_TYPE: ("CS", text(kind))}
