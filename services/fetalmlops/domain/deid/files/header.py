"""The clean header: made of what the rules keep, replace and leave empty; nothing else can get in."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from fetalmlops.domain.deid.files.writer import Attributes, text
from fetalmlops.domain.deid.rules.attributes import (
    BURNED_IN_TAG,
    DEFAULTS,
    EMPTIED,
    IMAGE_TYPE_WORDS,
    KEY_OBJECTS,
    Keep,
    Kind,
)
from fetalmlops.domain.deid.rules.checks import Context, Kept, check_value
from fetalmlops.domain.deid.rules.dates import DatePolicy
from fetalmlops.domain.deid.rules.table import CODES, Option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fetalmlops.domain.deid.files.reader import Item
    from fetalmlops.domain.deid.identity import Identity
    from fetalmlops.domain.deid.reports.references import KeyedUids
    from fetalmlops.domain.deid.rules.profile import Profile

__all__ = [
    "IMAGE_TYPE",
    "base_attributes",
    "frame_pointer",
    "image_marks",
    "keep",
    "kept_attributes",
    "method_codes",
    "says_burned_in",
    "unverified",
]

IMAGE_TYPE = 0x0008_0008
_FRAME_TIME, _FRAME_TIME_VECTOR, _FRAMES = 0x0018_1063, 0x0018_1065, 0x0028_0008
_BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
_CLEAN_PIXELS = ("113101", "Clean Pixel Data Option")
_TEMPORAL = {
    DatePolicy.NONE: "REMOVED",
    DatePolicy.SHIFT: "MODIFIED",
    DatePolicy.YEAR: "MODIFIED",
    DatePolicy.FULL: "UNMODIFIED",
}
_HEX = frozenset("0123456789ABCDEF")


def keep(dataset: Item, rules: Iterable[Keep], context: Context) -> dict[int, Kept]:
    """Return the values that pass their rule, by tag."""
    values = dataset.values
    checked = {
        rule.tag: check_value(rule.vr, rule.check, values[rule.tag], context) for rule in rules if rule.tag in values
    }
    return {tag: kept for tag, kept in checked.items() if kept is not None}


def kept_attributes(kept: dict[int, Kept], rules: Iterable[Keep]) -> Attributes:
    """Return kept values as attributes."""
    return {rule.tag: (rule.vr, kept[rule.tag].data) for rule in rules if rule.tag in kept}


def base_attributes(identity: Identity, kind: Kind, profile: Profile, uids: KeyedUids) -> Attributes:
    """Return what every clean instance has: emptied and replaced attributes and the marks of PS3.15 E.1.1."""
    attributes: Attributes = {tag: (vr, [] if vr == "SQ" else b"") for tag, vr in EMPTIED[kind]}
    attributes |= {tag: (vr, text(value)) for tag, vr, value in DEFAULTS[kind]}
    method = f"FetalMLOps {profile.name} {profile.version}, PS3.15 {profile.edition}, allow-list"
    attributes |= {
        0x0008_0016: ("UI", text(identity.instance.sop_class_uid)),
        0x0008_0018: ("UI", uids(identity.instance.uid)),
        0x0010_0020: ("LO", text(identity.pseudonyms.patient)),
        0x0012_0062: ("CS", text("YES")),
        0x0012_0063: ("LO", text(method)),
        0x0012_0064: ("SQ", method_codes(profile, kind, cleaned=False)),
        0x0020_000D: ("UI", uids(identity.study.uid)),
        0x0020_000E: ("UI", uids(identity.instance.series_uid)),
        0x0028_0303: ("CS", text(_TEMPORAL[profile.dates])),
    }
    return attributes


def method_codes(profile: Profile, kind: Kind, *, cleaned: bool) -> list[Attributes]:
    """Return the codes of what was done (PS3.16 CID 7050), and of nothing else: images have no structured content."""
    taken = set(profile.options) - ({Option.STRUCTURED} if kind is not Kind.DOCUMENT else set())
    options = [code for option, code in CODES.items() if option in taken]
    return [_code(*code) for code in (_BASIC_PROFILE, *([_CLEAN_PIXELS] if cleaned else []), *options)]


def image_marks(dataset: Item, profile: Profile, kind: Kind, *, cleaned: bool) -> Attributes:
    """Return Image Type and, where pixels were cleaned, what PS3.15 E.3.1 asks to be said of that."""
    if not cleaned:
        return {IMAGE_TYPE: _image_type(dataset, derived=False)}
    return {
        IMAGE_TYPE: _image_type(dataset, derived=True),
        0x0008_2111: ("ST", text("Pixels outside the ultrasound regions blanked")),
        0x0012_0064: ("SQ", method_codes(profile, kind, cleaned=True)),
        0x0028_0301: ("CS", text("NO")),
    }


def says_burned_in(dataset: Item) -> bool:
    """Return whether an instance says that identifiers are burned into its pixels, or says it unclearly."""
    value = dataset.values.get(BURNED_IN_TAG)
    return value is not None and value.data.strip(b" \0") not in (b"", b"NO")


def frame_pointer(kept: dict[int, Kept], frames: int) -> Attributes:
    """Return Frame Increment Pointer to the frame times that are kept; drop times that fit no frame."""
    vector = kept.get(_FRAME_TIME_VECTOR)
    if vector is not None and len(vector.numbers) != frames:
        del kept[_FRAME_TIME_VECTOR]
    tag = next((tag for tag in (_FRAME_TIME, _FRAME_TIME_VECTOR) if tag in kept), None)
    if tag is None or _FRAMES not in kept:
        return {}
    return {0x0028_0009: ("AT", struct.pack("<HH", tag >> 16, tag & 0xFFFF))}


def unverified(sop_class_uid: str) -> Attributes:
    """Return what a report says of itself after cleaning: partial and unverified; key objects say neither."""
    if sop_class_uid == KEY_OBJECTS:
        return {}
    return {0x0040_A491: ("CS", text("PARTIAL")), 0x0040_A493: ("CS", text("UNVERIFIED"))}


def _image_type(dataset: Item, *, derived: bool) -> tuple[str, bytes]:
    """Keep the known words by position."""
    value = dataset.values.get(IMAGE_TYPE)
    given = value.data.decode("ascii", "replace").split("\\") if value and value.vr in ("", "UN", "CS") else []
    words = [word.strip(" \0") for word in given[:4]]
    known = [word if word in allowed else "" for word, allowed in zip(words, IMAGE_TYPE_WORDS, strict=False)]
    if len(known) < 2 or not all(known[:2]):
        known = ["DERIVED", "PRIMARY", *known[2:]]
    if len(words) == 4 and len(words[3]) == 4 and _HEX.issuperset(words[3]):
        known.append(words[3])
    return "CS", text("DERIVED" if derived else known[0], *known[1:])


def _code(value: str, meaning: str) -> Attributes:
    return {
        0x0008_0100: ("SH", text(value)),
        0x0008_0102: ("SH", text("DCM")),
        0x0008_0104: ("LO", text(meaning)),
    }
