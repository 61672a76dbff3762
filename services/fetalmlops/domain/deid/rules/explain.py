"""What happens to an attribute under a profile, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.files.header import IMAGE_TYPE
from fetalmlops.domain.deid.rules.attributes import DEFAULTS, EMPTIED, PALETTE, REFERENCES, REGION, REGIONS_TAG, Keep
from fetalmlops.domain.deid.rules.checks import Age, Check, Moments, Numbers, Phrase, Place, Vocabulary, Words
from fetalmlops.domain.deid.rules.table import Action, Row, standard_table

if TYPE_CHECKING:
    from fetalmlops.domain.deid.rules.profile import Profile

__all__ = ["Explanation", "Fate", "explain"]

_PIXELS = 0x7FE0_0010
_META_END = 0x0003_0000
_MADE = {
    0x0008_0016: "the class stays: it is registered",
    0x0008_0018: "keyed: 2.25 and 128 bits of an HMAC under the project's key",
    0x0010_0020: "the patient's pseudonym",
    0x0012_0062: "YES",
    0x0012_0063: "the profile, its version and the edition of the rules",
    0x0012_0064: "the codes of the profile and of the options that were taken",
    0x0020_000D: "keyed: 2.25 and 128 bits of an HMAC under the project's key",
    0x0020_000E: "keyed: 2.25 and 128 bits of an HMAC under the project's key",
    0x0028_0301: "NO where pixels were cleaned",
    0x0028_0303: "what the dates policy did",
    0x0008_2111: "that pixels were blanked",
    0x0028_0009: "the frame times that are kept",
    IMAGE_TYPE: "its known words",
}


_CONTENT = {
    0x0040_A730: "of documents a tree of containers, numbers and codes that are known; of images removed",
    0x0040_A043: "of documents: a known code, with the meaning of the list",
    0x0040_A504: "of documents: the template, if it is one of the standard's",
    0x0040_A375: "of documents: known classes, and keyed UIDs",
    0x0040_A385: "of documents: known classes, and keyed UIDs",
}


class Fate(StrEnum):
    """What becomes of an attribute."""

    KEPT = "kept"
    CLEANED = "cleaned"
    REPLACED = "replaced"
    EMPTIED = "emptied"
    REMOVED = "removed"


@dataclass(frozen=True)
class Explanation:
    """What becomes of an attribute, how, and what the standard says of it; `row` is None where its table is silent."""

    fate: Fate
    how: str
    standard: str
    row: Row | None


def explain(profile: Profile, tag: int) -> Explanation:
    """Return what a profile does with an attribute of an image, at the top level or in a region's item, or of a document.

    Examples
    --------
    >>> from fetalmlops.domain.deid.rules.profile import PROFILES
    >>> explain(PROFILES["stream"], 0x0008_0020).fate.value, explain(PROFILES["research"], 0x0008_0020).fate.value
    ('emptied', 'cleaned')
    """
    fate, how = _fate(profile, tag)
    return Explanation(fate, how, _standard(profile, tag), standard_table().find(tag))


def _fate(profile: Profile, tag: int) -> tuple[Fate, str]:
    if tag < _META_END:
        return Fate.REPLACED, "File Meta Information is made anew"
    if tag == _PIXELS:
        return Fate.CLEANED, "pixels outside what is proven are blanked; without proof the instance goes to quarantine"
    if tag in _MADE:
        return Fate.REPLACED, _MADE[tag]
    if tag == REGIONS_TAG:
        return Fate.CLEANED, "items keep their numbers"
    if tag in REFERENCES and profile.keeps_references:
        return Fate.CLEANED, "references keep their class, if it is a known one, and keyed UIDs"
    if tag in _CONTENT and profile.keeps_content:
        return Fate.CLEANED, _CONTENT[tag]
    if tag >> 16 & 1:
        return _private(profile, tag)
    if tag in PALETTE:
        return Fate.KEPT, "where the pixels need it"
    rule = next((rule for rule in (*profile.image, *REGION) if rule.tag == tag), None)
    if rule is not None:
        return _kept(profile, rule, tag)
    if _is_required(tag):
        return Fate.EMPTIED, "the IOD requires it to be present (type 2)"
    return Fate.REMOVED, "not on the allow-list"


def _private(profile: Profile, tag: int) -> tuple[Fate, str]:
    """Explain a private attribute: its block says nothing, so that all creators of the safe list are named."""
    found = [rule for rule in profile.private if rule.group == tag >> 16 and rule.element == tag & 0xFF]
    if tag & 0xFFFF > 0xFF and found:
        rules = "; ".join(f"of creator {rule.creator}: {_described(rule.check)}" for rule in found)
        return Fate.KEPT, f"on the private safe list: {rules}; removed else"
    if tag & 0xFFFF <= 0xFF and any(rule.group == tag >> 16 for rule in profile.private):
        return Fate.REPLACED, "the creators of the blocks that hold kept private attributes"
    return Fate.REMOVED, "private, and not on the profile's safe list"


def _kept(profile: Profile, rule: Keep, tag: int) -> tuple[Fate, str]:
    otherwise = "emptied" if _is_required(tag) else "removed"
    if isinstance(rule.check, Moments):
        how = {"shift": "shifted by the patient's days into the past", "year": "the year stays", "full": "as it is"}
        return (Fate.KEPT if profile.dates == "full" else Fate.CLEANED), how[profile.dates]
    return (
        Fate.CLEANED if isinstance(rule.check, Vocabulary) else Fate.KEPT
    ), f"{_described(rule.check)}; {otherwise} else"


def _described(check: Check) -> str:
    match check:
        case Numbers(low, high, _, most):
            return f"numbers from {low:g} to {high:g}, at most {most}"
        case Words(allowed):
            return f"one of {', '.join(allowed)}"
        case Vocabulary():
            return "the words of the vocabulary, except those that name the patient"
        case Phrase():
            return "a product's name without any word that names the patient"
        case Place():
            return "plain text without any word or number that names the patient or another person"
        case Age():
            return "an age of at most 89 years"
        case Moments():
            return "a date or time"


def _standard(profile: Profile, tag: int) -> str:
    ruling = standard_table().rule(tag, profile.options)
    if ruling.row is None:
        return "not in Table E.1-1"
    names = {Action.KEEP: "keep", Action.CLEAN: "clean", Action.REMOVE: "remove", Action.EMPTY: "empty",
             Action.DUMMY: "replace by a dummy", Action.UID: "replace the UID"}  # fmt: skip
    actions = " or ".join(names[action] for action in ruling.actions)
    by = f"option {ruling.option}" if ruling.option else "basic profile"
    return f"{actions} ({by}; row of edition {ruling.row.since})"


def _is_required(tag: int) -> bool:
    emptied = {item for entries in EMPTIED.values() for item, _ in entries}
    return tag in emptied | {item for entries in DEFAULTS.values() for item, _, _ in entries}
