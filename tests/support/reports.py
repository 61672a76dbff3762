"""An OB-GYN report as a scanner sends it (TID 5000), with a canary in every place that can hold one."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from support.dicom_files import EXPLICIT, Sample, make_sample

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
US_MULTIFRAME = b"1.2.840.10008.5.1.4.1.1.3.1"
UIDS = b"1.2.826.0.1.3680043.10.777."
"""All UIDs of the report begin with this."""

NUMBERS = ("28.4", "53.12", "197", "21.5", "142.3", "1520")
"""The numbers that stay."""

Attributes = dict[int, tuple[str, Any]]


def coded(value: str, scheme: str, meaning: str = "CANARY meaning") -> tuple[str, Any]:
    """Return a sequence of one code; its meaning is a canary unless told."""
    return (
        "SQ",
        [
            {
                0x0008_0100: ("SH", value.encode()),
                0x0008_0102: ("SH", scheme.encode()),
                0x0008_0103: ("SH", b"CANARY-VERS"),
                0x0008_0104: ("LO", meaning.encode()),
                0x0008_010C: ("UI", UIDS + b"900"),
                0x0009_0010: ("LO", b"CANARY CREATOR"),
            }
        ],
    )


def node(
    kind: str, name: tuple[str, Any] | None, value: Attributes, *children: Attributes, by: str = "CONTAINS"
) -> Attributes:
    """Return a content item, with canaries in what no rule keeps."""
    item: Attributes = {
        0x0009_0010: ("LO", b"CANARY CREATOR"),
        0x0009_1001: ("LO", b"CANARY private"),
        0x0040_A010: ("CS", by.encode()),
        0x0040_A032: ("DT", b"20240131101112"),
        0x0040_A040: ("CS", kind.encode()),
        0x0040_A171: ("UI", UIDS + b"901"),
        **value,
    }
    if name is not None:
        item[0x0040_A043] = name
    if children:
        item[0x0040_A730] = ("SQ", list(children))
    return item


def num(name: tuple[str, Any], number: str, unit: str, *children: Attributes, by: str = "CONTAINS") -> Attributes:
    measured = {
        0x0040_A30A: ("DS", number.encode()),
        0x0040_08EA: coded(unit, "UCUM"),
        0x0040_A161: ("FD", b"CANARY!!"),
    }
    return node("NUM", name, {0x0040_A300: ("SQ", [measured])}, *children, by=by)


def code(name: tuple[str, Any], value: tuple[str, Any], by: str = "HAS CONCEPT MOD") -> Attributes:
    return node("CODE", name, {0x0040_A168: value}, by=by)


def text(name: tuple[str, Any], value: bytes, by: str = "CONTAINS") -> Attributes:
    return node("TEXT", name, {0x0040_A160: ("UT", value)}, by=by)


def container(name: tuple[str, Any] | None, *children: Attributes, template: bytes = b"5005") -> Attributes:
    value: Attributes = {
        0x0040_A050: ("CS", b"SEPARATE"),
        0x0040_A504: ("SQ", [{0x0008_0105: ("CS", b"DCMR"), 0x0040_DB00: ("CS", template)}]),
    }
    return node("CONTAINER", name, value, *children)


def image(number: int, by: str = "INFERRED FROM") -> Attributes:
    reference = {
        0x0008_1150: ("UI", US_MULTIFRAME),
        0x0008_1155: ("UI", UIDS + str(number).encode()),
        0x0008_1160: ("IS", b"1"),
    }
    return node("IMAGE", None, {0x0008_1199: ("SQ", [reference])}, by=by)


def observer() -> list[Attributes]:
    """Return who observed, of what procedure, and whom: observation context (TID 1001)."""
    context = "HAS OBS CONTEXT"
    return [
        code(coded("121005", "DCM"), coded("121006", "DCM"), by=context),
        node("PNAME", coded("121008", "DCM"), {0x0040_A123: ("PN", b"CANARY^OBSERVER")}, by=context),
        text(coded("121009", "DCM"), b"CANARY HOSPITAL", by=context),
        node("UIDREF", coded("121012", "DCM"), {0x0040_A124: ("UI", UIDS + b"902")}, by=context),
        node("DATE", coded("121031", "DCM"), {0x0040_A121: ("DA", b"19610203")}, by=context),
        num(coded("121030", "DCM"), "4711", "1", by=context),
        num(coded("121033", "DCM"), "31", "a", by=context),
        code(coded("121024", "DCM"), coded("121026", "DCM"), by=context),
        text(coded("11951-1", "LN"), b"A", by=context),
        text(coded("11951-1", "LN"), b"CANARY BABY", by=context),
    ]


def group(*children: Attributes) -> Attributes:
    return container(coded("125005", "DCM"), *children)


def content() -> list[Attributes]:
    """Return the content of the report's root."""
    point = {0x0070_0022: ("FL", struct.pack("<4f", 10, 20, 30, 40)), 0x0070_0023: ("CS", b"POLYLINE")}
    site = code(coded("363698007", "SCT"), coded("T-D1100", "SRT"))
    biometry = num(
        coded("11820-8", "LN"),
        NUMBERS[0],
        "mm",
        code(coded("121401", "DCM"), coded("373098007", "SCT")),
        code(coded("CANARY1", "99LOCAL"), coded("CANARY2", "99LOCAL")),
        text(coded("121405", "DCM"), b"CANARY population", by="HAS PROPERTIES"),
        node("SCOORD", None, point, image(11, by="SELECTED FROM"), by="INFERRED FROM"),
        node("SCOORD", None, point, by="INFERRED FROM"),
    )
    return [
        *observer(),
        code(coded("121049", "DCM"), coded("CANARY", "RFC5646")),
        node("DATE", coded("11778-8", "LN"), {0x0040_A121: ("DA", b"20240815")}),
        node("DATETIME", coded("11778-8", "LN"), {0x0040_A120: ("DT", b"20240815101112")}),
        node("TIME", coded("111526", "DCM"), {0x0040_A122: ("TM", b"101112")}),
        node("UIDREF", coded("112040", "DCM"), {0x0040_A124: ("UI", UIDS + b"12")}),
        container(coded("125002", "DCM"), group(biometry), group(num(coded("11979-2", "LN"), NUMBERS[1], "mm", site))),
        container(coded("CANARY3", "99LOCAL"), num(coded("18185-9", "LN"), NUMBERS[2], "d"), template=b"CANARY"),
        container(coded("121070", "DCM"), text(coded("121071", "DCM"), b"CANARY finding")),
        container(None, container(None, container(None, num(coded("11963-6", "LN"), NUMBERS[3], "mm")))),
        num(coded("11948-7", "LN"), NUMBERS[4], "{H.B.}/min", image(11)),
        num(coded("11727-5", "LN"), NUMBERS[5], "g"),
        *refused_numbers(),
        node(
            "COMPOSITE",
            coded("121112", "DCM"),
            {0x0008_1199: ("SQ", [{0x0008_1150: ("UI", UIDS + b"903"), 0x0008_1155: ("UI", UIDS + b"904")}])},
        ),
        image(21, by="CONTAINS"),
        {0x0040_A010: ("CS", b"INFERRED FROM"), 0x0040_DB73: ("UL", struct.pack("<2I", 1, 2))},
        node("CANARY", coded("121071", "DCM"), {}),
        node("WAVEFORM", None, {}, by="CANARY"),
    ]


def refused_numbers() -> Iterable[Attributes]:
    """Return numbers that are no measurements."""
    length = coded("11963-6", "LN")
    yield num(coded("CANARY4", "99LOCAL"), "8154711081", "mm")
    yield num(coded("CANARY5", "LN"), "8154711082", "mm")
    yield num(length, "8154711083", "mm")
    yield num(length, "8154711", "{CANARY}")
    yield num(length, "20240131", "d")
    yield num(length, "CANARY", "mm")
    yield num(coded("121022", "DCM"), "8154", "1")


def evidence() -> tuple[str, Any]:
    """Return the list of a document's evidence: one image of a known class, and one of another."""
    instances = [{0x0008_1150: ("UI", US_MULTIFRAME), 0x0008_1155: ("UI", UIDS + b"11")}]
    instances.append({0x0008_1150: ("UI", UIDS + b"905"), 0x0008_1155: ("UI", UIDS + b"906")})
    series = {
        0x0008_0054: ("AE", b"CANARY-AE"),
        0x0008_1199: ("SQ", instances),
        0x0020_000E: ("UI", UIDS + b"13"),
        0x0088_0130: ("SH", b"CANARY-FILESET"),
    }
    return "SQ", [
        {0x0008_1115: ("SQ", [series]), 0x0020_000D: ("UI", UIDS + b"14"), 0x0008_0050: ("SH", b"CANARY-ACC")}
    ]


def make_report(
    transfer_syntax: str = EXPLICIT, *, sop_class: str = COMPREHENSIVE, items: list[Attributes] | None = None
) -> Sample:
    """Return the report; `items` take the place of its content. Big endian reads the numbers of coordinates as others."""
    sample = make_sample(transfer_syntax, sop_class=sop_class)
    identifying = {tag: value for tag, value in sample.attributes.items() if tag >> 16 in (0x0008, 0x0010, 0x0020)}
    sample.pixels = b""
    sample.attributes = identifying | {
        0x0008_0023: ("DA", b"20240131"),
        0x0008_0033: ("TM", b"101112"),
        0x0008_0060: ("CS", b"SR"),
        0x0008_0070: ("LO", b""),
        0x0008_1111: ("SQ", []),
        0x0040_A040: ("CS", b"CONTAINER"),
        0x0040_A043: coded("125000", "DCM"),
        0x0040_A050: ("CS", b"SEPARATE"),
        0x0040_A078: ("SQ", [{0x0040_A123: ("PN", b"CANARY^AUTHOR")}]),
        0x0040_A372: ("SQ", [{0x0008_0104: ("LO", b"CANARY PROCEDURE")}]),
        0x0040_A375: evidence(),
        0x0040_A491: ("CS", b"COMPLETE"),
        0x0040_A493: ("CS", b"UNVERIFIED"),
        0x0040_A504: ("SQ", [{0x0008_0105: ("CS", b"DCMR"), 0x0040_DB00: ("CS", b"5000")}]),
        0x0040_A730: ("SQ", content() if items is None else items),
    }
    del sample.attributes[0x0008_0008]
    return sample
