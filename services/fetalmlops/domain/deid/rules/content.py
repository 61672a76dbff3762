"""The rules for the content of documents as data: which content items are kept, and how they must look.

Names are those of PS3.3 C.17.3. TEXT and PNAME have no rule beyond labels: they are removed with all that hangs on them.
"""

from __future__ import annotations

__all__ = [
    "CONTINUITIES",
    "DATED",
    "GRAPHICS",
    "HIDDEN_WORDS",
    "LABELLED",
    "LABELS",
    "MOST_NUMBER",
    "OLDEST",
    "ON_SCREEN",
    "PATIENT_CONCEPTS",
    "REFERENCE_TYPES",
    "RELATIONS",
    "STEPS",
    "TEMPLATES",
    "TRACKED",
    "UNIT_LIMITS",
]

_VALUES = ("TEXT", "CODE", "NUM", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE")
_CLAIMS = ("TEXT", "CODE", "NUM")
_DATED = ("DATETIME", "DATE", "TIME")
REFERENCE_TYPES = ("IMAGE", "COMPOSITE", "WAVEFORM")
"""Value types that refer to another instance."""

_ALL = (*_VALUES, "IMAGE", "WAVEFORM", "SCOORD", "CONTAINER")

RELATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "CONTAINS": (("CONTAINER",), _ALL),
    "HAS OBS CONTEXT": (_ALL, _VALUES),
    "HAS ACQ CONTEXT": (("CONTAINER", "NUM", *REFERENCE_TYPES), (*_CLAIMS, *_DATED, "CONTAINER")),
    "HAS CONCEPT MOD": (_ALL, ("TEXT", "CODE")),
    "HAS PROPERTIES": (_CLAIMS, _ALL),
    "INFERRED FROM": (_CLAIMS, _ALL),
    "SELECTED FROM": (("SCOORD",), ("IMAGE",)),
}
"""Relationship to the value types that it may join: of the item it starts from, and of the one that it leads to (A.35.3)."""

DATED: dict[str, tuple[int, str]] = {
    "DATE": (0x0040_A121, "DA"),
    "TIME": (0x0040_A122, "TM"),
    "DATETIME": (0x0040_A120, "DT"),
}
"""Value types that are kept as the profile's policy of dates leaves them: where the value stands."""

CONTINUITIES = ("SEPARATE", "CONTINUOUS")
"""What Continuity of Content may say."""

ON_SCREEN = 16_384
"""The highest coordinate of a point on an image, in pixels."""

STEPS = 64
"""Coordinates are rounded to this part of a pixel, so that no text can pass as the bytes of one."""

GRAPHICS: dict[str, tuple[int, int]] = {
    "POINT": (2, 2),
    "MULTIPOINT": (2, 4096),
    "POLYLINE": (4, 4096),
    "CIRCLE": (4, 4),
    "ELLIPSE": (8, 8),
}
"""Graphic types, and the least and most numbers that one has."""

HIDDEN_WORDS = frozenset(
    [
        "accession",
        "address",
        "birth",
        "breed",
        "filler",
        "email",
        "id",
        "identification",
        "identifier",
        "identifiers",
        "login",
        "name",
        "names",
        "number",
        "observer",
        "organization",
        "owner",
        "person",
        "physician",
        "placer",
        "serial",
        "species",
        "telephone",
        "uid",
        "uids",
        "verbal",
    ]
)
"""A concept whose meaning has one of these words, "number of" apart, names somebody or something: it is removed."""

LABELLED = frozenset({("LN", "11951-1"), ("DCM", "125010"), ("DCM", "121037")})
"""Fetus ID, Identifier, Fetus number: kept where the label is one of `LABELS`."""

LABELS = frozenset(
    [*"ABCDEFGH", *(str(number) for number in range(1, 21)), *(f"Fetus {letter}" for letter in "ABCDEFGH")]
)
"""What tells twins and follicles apart."""

TRACKED = frozenset({("DCM", "112040"), ("DCM", "112002"), ("DCM", "121018")})
"""Tracking Unique Identifier, Series Instance UID and Procedure Study Instance UID: kept as keyed UIDs."""

PATIENT_CONCEPTS = frozenset(
    {
        ("DCM", "121032"),
        ("DCM", "121033"),
        ("LN", "8302-2"),
        ("LN", "29463-7"),
        ("LN", "8277-6"),
        ("LN", "39156-5"),
    }
)
"""Sex, age, height, weight, body surface and body mass index: kept under the option of patient characteristics only."""

OLDEST = {"a": 89.0, "mo": 1068.0, "wk": 4640.0, "d": 32485.0}
"""The highest Subject Age (121033) by its unit: 89 years."""

MOST_NUMBER = 100_000.0
"""The highest absolute number with a unit that has no limit of its own."""

UNIT_LIMITS: dict[str, float] = {
    "mm": 5_000,
    "cm": 500,
    "m": 10,
    "mm2": 1e6,
    "cm2": 10_000,
    "mm3": 1e7,
    "cm3": 10_000,
    "ml": 10_000,
    "mL": 10_000,
    "g": 20_000,
    "kg": 400,
    "d": 1_000,
    "wk": 150,
    "mo": 1_200,
    "a": 130,
    "%": 1_000,
    "/min": 1_000,
    "1/min": 1_000,
    "{H.B.}/min": 1_000,
    "{beats}/min": 1_000,
    "{bpm}": 1_000,
    "mm[Hg]": 1_000,
    "cm/s": 2_000,
    "mm/s": 20_000,
    "m/s": 20,
    "1": 10_000,
    "{ratio}": 10_000,
    "deg": 360,
    "Hz": 1e8,
}
"""The highest absolute number by unit (UCUM): above it a number is no measurement."""

TEMPLATES = frozenset(
    str(number)
    for numbers in (
        (300, 310, 320, 321, 1204, 2000, 2005, 2006, 2010),
        range(1000, 1011),
        (1400, 1410, 1411, 1419, 1420, 1500, 1501, 1502),
        (*range(5000, 5017), 5025, 5030),
        range(5100, 5118),
        range(5200, 5230),
        range(5300, 5304),
    )
    for number in numbers
)
"""Identifiers of the standard's templates (PS3.16) that are named in clean documents."""
