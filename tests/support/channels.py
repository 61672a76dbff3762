"""Channels that no row of the table closes: one instance each, with identifiers planted in it, and a search for them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydicom.encaps import encapsulate

from support import dicom_files as files
from support.canaries import Canaries

if TYPE_CHECKING:
    from collections.abc import Callable


NAME, PLACE, NUMBER, DATE = "QXCANARY", "QXHOSPITAL", "4711081512", "19610203"
UID, OTHER_UID = "1.2.826.0.1.3680043.10.777.42", "1.2.826.0.1.3680043.10.777.43"
IDEOGRAPHIC, CYRILLIC, GREEK, HANGUL = "金絲雀", "КАНАРЕЙКА", "ΚΑΝΑΡΙΝΙ", "카나리아새"  # noqa: RUF001
SEARCHED = (NAME, PLACE, NUMBER, DATE, UID, OTHER_UID, IDEOGRAPHIC, CYRILLIC, GREEK, HANGUL)
EVERY = Canaries(SEARCHED)
# What ISO 2022 makes of letters depends on the set that is switched to: the bytes are searched for as every set has them.
OTHER_FORMS = tuple(
    text.encode(encoding, "ignore")
    for text in (IDEOGRAPHIC, CYRILLIC, GREEK, HANGUL)
    for encoding in (
        "iso2022_jp",
        "iso2022_jp_2",
        "iso2022_kr",
        "iso8859_5",
        "iso8859_7",
        "euc_jp",
        "cp949",
        "gb2312",
        "big5",
    )
)
TEXT = f"seen {NAME} of {PLACE}, no. {NUMBER}, born {DATE}, study {UID}".encode()
PERSON = f"{NAME}^PATIENT={IDEOGRAPHIC}^x={NAME}".encode()

TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UN", "UR", "UT")
REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"

CHANNELS: dict[str, Callable[[], files.Sample]] = {}
REFUSED = {
    "presentation state": "unsupported-sop-class",
    "encapsulated PDF": "unsupported-sop-class",
    "encapsulated CDA": "unsupported-sop-class",
    "video": "unsupported-transfer-syntax",
    "pixel data of double cells": "no-pixel-data",
}
"""Channels whose instances are refused as a whole, with the reason; nothing else may be refused."""

KEPT_BY_FULL_DATES = {"text of structured reports": (DATE,)}
"""What a profile that keeps dates as they are has to let through: the dates of a report's items."""


def channel(name: str) -> Callable[[Callable[[], files.Sample]], Callable[[], files.Sample]]:
    def add(make: Callable[[], files.Sample]) -> Callable[[], files.Sample]:
        CHANNELS[name] = make
        return make

    return add


def sample(syntax: str = files.EXPLICIT, **changes: Any) -> files.Sample:
    """Return an instance whose identity is that of the canaries."""
    made = files.make_sample(syntax, **changes)
    return plant(made, {
        0x0010_0010: ("PN", f"{NAME}^PATIENT".encode()),
        0x0010_0020: ("LO", NUMBER.encode()),
        0x0010_0030: ("DA", DATE.encode()),
        0x0008_0080: ("LO", PLACE.encode()),
        0x0020_000D: ("UI", UID.encode()),
    })  # fmt: skip


def plant(made: files.Sample, attributes: dict[int, tuple[str, Any]]) -> files.Sample:
    made.attributes |= attributes
    return made


def everywhere(attributes: dict[int, tuple[str, Any]]) -> files.Sample:
    """Plant attributes at the top, in a sequence, in a region and in an unknown value."""
    made = plant(sample(), attributes)
    made.attributes[0x0018_6011][1][0].update(attributes)
    unknown = files.Encoding(implicit=True).items([attributes])
    return plant(made, {0x0040_0275: ("SQ", [attributes]), 0x0008_1140: ("UN", unknown)})


@channel("preamble")
def _preamble() -> files.Sample:
    made = sample()
    made.preamble = TEXT[:128].ljust(128, b"!")
    return made


@channel("file meta: AE titles and private information")
def _meta() -> files.Sample:
    made = sample()
    titles = {tag: ("AE", NAME.encode()) for tag in (0x0002_0016, 0x0002_0017, 0x0002_0018)}
    made.meta = titles | {
        0x0002_0012: ("UI", OTHER_UID.encode()),
        0x0002_0013: ("SH", NAME.encode()),
        0x0002_0026: ("UR", f"http://{NAME}.example/{NUMBER}".encode()),
        0x0002_0100: ("UI", OTHER_UID.encode()),
        0x0002_0102: ("OB", TEXT),
    }
    return made


@channel("group lengths")
def _group_lengths() -> files.Sample:
    return everywhere({tag: ("UL", NUMBER[:4].encode()) for tag in (0x0008_0000, 0x0010_0000, 0x0040_0000)} | {
        0x0018_0000: ("LO", TEXT),
    })  # fmt: skip


@channel("bytes after the dataset")
def _after() -> files.Sample:
    made = sample()
    padding = files.Encoding().dataset({0xFFFC_FFFC: ("OB", TEXT), 0xFFFA_FFFA: ("SQ", [{0x0400_0115: ("OB", TEXT)}])})
    made.after = padding + TEXT
    made.pixels += TEXT
    return made


def _private(group: int) -> dict[int, tuple[str, Any]]:
    start = group << 16
    inner = {0x0010_0010: ("PN", PERSON), start + 0x1001: ("LO", TEXT)}
    return {
        start + 0x1001: ("UN", TEXT),
        start + 0x1002: ("SQ", [inner]),
        start + 0x1003: ("UN", files.Encoding(implicit=True).items([inner])),
        start + 0x10FF: ("OB", TEXT * 2000),
    }


@channel("private block with its creator")
def _private_with_creator() -> files.Sample:
    return everywhere({0x0009_0010: ("LO", f"{NAME} CREATOR".encode())} | _private(0x0009))


@channel("private block without a creator")
def _private_without_creator() -> files.Sample:
    return everywhere(_private(0x0019) | _private(0x7FDF))


@channel("retired attributes")
def _retired() -> files.Sample:
    return everywhere({
        0x0008_0040: ("US", b"47"), 0x0008_4000: ("LT", TEXT), 0x0010_1050: ("LO", TEXT), 0x0018_4000: ("LT", TEXT),
        0x0020_4000: ("LT", TEXT), 0x0028_4000: ("LT", TEXT), 0x0032_0012: ("LO", TEXT), 0x4008_0300: ("ST", TEXT),
    })  # fmt: skip


@channel("unknown attributes")
def _unknown() -> files.Sample:
    return everywhere({
        0x0008_9998: ("LO", TEXT), 0x0010_9999: ("PN", PERSON), 0x0018_6099: ("UT", TEXT), 0x7000_0001: ("UN", TEXT),
    })  # fmt: skip


def _every_attribute(vr: str) -> Callable[[], files.Sample]:
    """Plant a text in every kind of place there is for one representation: of the patient, of the region, of no rule."""
    value = {"UI": UID.encode(), "PN": PERSON, "DA": DATE.encode(), "DT": DATE.encode() + b"0102", "AS": b"047Y"}.get(
        vr, TEXT
    )
    tags = (0x0008_1030, 0x0018_1030, 0x0018_6031, 0x0020_4000, 0x0040_A160, 0x0008_0104, 0x0028_3003, 0x0072_0066)
    return lambda: everywhere(dict.fromkeys(tags, (vr, value)))


for _vr in TEXT_VRS:
    channel(f"text of {_vr}")(_every_attribute(_vr))


@channel("overlays")
def _overlays() -> files.Sample:
    planes = {}
    for group in range(0x6000, 0x6020, 2):
        planes |= {group << 16 | 0x0022: ("LO", TEXT[:60]), group << 16 | 0x1500: ("LO", TEXT[:60])}
        planes |= {group << 16 | 0x3000: ("OW", TEXT), group << 16 | 0x4000: ("LT", TEXT)}
    return plant(sample(), planes)


@channel("curves")
def _curves() -> files.Sample:
    curves = {
        0x5000_0022: ("LO", TEXT),
        0x5000_2500: ("LO", TEXT),
        0x5000_3000: ("OW", TEXT),
        0x501E_200C: ("OW", TEXT),
    }
    return plant(sample(), curves | {0x5400_0100: ("SQ", [{0x5400_1010: ("OW", TEXT)}])})


@channel("overlay bits above the stored ones")
def _high_bits() -> files.Sample:
    made = sample().set(allocated=16, stored=8, high=7)
    pixels = files.speckle(1, files.ROWS, files.COLUMNS, dtype=np.uint16)
    bits = np.unpackbits(np.frombuffer(TEXT * 8, np.uint8))
    # Within the region, which is kept: one bit of text a pixel, and the text itself as high bytes.
    area = pixels[0, 12:40, 10:70].reshape(-1)
    area[: len(bits)] |= bits[: len(area)].astype(np.uint16) << 12
    pixels[0, 12:40, 10:70] = area.reshape(28, 60)
    row = np.frombuffer(TEXT[:60].ljust(60), np.uint8).astype(np.uint16) << 8
    pixels[0, 42, 10:70] |= row
    made.pixels = pixels.tobytes()
    return made


@channel("icons")
def _icon() -> files.Sample:
    icon = {0x0028_0010: ("US", files.u16(8)), 0x0028_0011: ("US", files.u16(8)), 0x7FE0_0010: ("OW", TEXT)}
    return plant(sample(), {0x0088_0200: ("SQ", [icon]), 0x0009_1110: ("SQ", [icon]), 0x0088_0904: ("LO", TEXT)})


def _jpeg_frame() -> bytes:
    return bytes(cv2.imencode(".jpg", files.speckle(files.ROWS, files.COLUMNS, 3))[1])


def _compressed(fragments: list[bytes], syntax: str = JPEG, photometric: str = "YBR_FULL_422") -> files.Sample:
    made = sample(syntax, photometric=photometric, samples=1 if photometric.startswith("MONO") else 3)
    made.pixels = encapsulate(fragments, has_bot=False) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return made


@channel("JPEG comments and application segments")
def _jpeg_segments() -> files.Sample:
    frame, segments = _jpeg_frame(), b""
    for marker in (0xFE, *range(0xE0, 0xF0)):
        prefix = {0xE0: b"JFXX\0", 0xE1: b"Exif\0\0", 0xEE: b"Adobe"}.get(marker, b"")
        segments += bytes((0xFF, marker)) + (len(prefix + TEXT) + 2).to_bytes(2, "big") + prefix + TEXT
    return _compressed([frame[:2] + segments + frame[2:] + TEXT])


@channel("JPEG 2000 comments")
def _jpeg_2000_comment() -> files.Sample:
    frame = bytes(cv2.imencode(".jp2", files.speckle(files.ROWS, files.COLUMNS))[1])
    start = frame.index(b"\xff\x4f\xff\x51")
    stream = frame[start:]
    size_end = 4 + int.from_bytes(stream[4:6], "big")
    comment = b"\xff\x64" + (len(TEXT) + 4).to_bytes(2, "big") + b"\0\x01" + TEXT
    return _compressed([stream[:size_end] + comment + stream[size_end:]], J2K, "MONOCHROME2")


@channel("bytes after the compressed frame")
def _after_the_frame() -> files.Sample:
    return _compressed([_jpeg_frame() + TEXT])


@channel("fragments beyond the frames")
def _fragments() -> files.Sample:
    return _compressed([_jpeg_frame(), TEXT + b" " * (len(TEXT) % 2)])


@channel("fragments beyond the frames of a clip")
def _fragments_of_a_clip() -> files.Sample:
    frame = _jpeg_frame()
    made = _compressed([frame, frame, TEXT + b" " * (len(TEXT) % 2)])
    return plant(
        made, {0x0028_0008: ("IS", b"2"), 0x0018_1063: ("DS", b"33"), 0x0028_0009: ("AT", files.u16(0x18, 0x1063))}
    )


@channel("offset tables")
def _offsets() -> files.Sample:
    frame = _jpeg_frame()
    frame += b"\0" * (len(frame) % 2)
    made = sample(JPEG, photometric="YBR_FULL_422", samples=3)
    made.pixels = (
        struct.pack("<HHI", 0xFFFE, 0xE000, 4) + bytes(4) + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    )
    made.pixels += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return plant(made, {0x7FE0_0001: ("OV", TEXT[:16]), 0x7FE0_0002: ("OV", TEXT[:16]), 0x7FE0_0003: ("UV", TEXT[:8])})


@channel("pixel data of double cells")
def _double_pixels() -> files.Sample:
    made = plant(sample(), {0x7FE0_0008: ("OF", TEXT)})
    made.pixels = b""
    made.after = files.Encoding().dataset({0x7FE0_0009: ("OD", TEXT)})
    return made


def _code(value: bytes, scheme: bytes, meaning: bytes) -> list[dict[int, Any]]:
    return [{0x0008_0100: ("SH", value), 0x0008_0102: ("SH", scheme), 0x0008_0104: ("LO", meaning)}]


@channel("text of structured reports")
def _report() -> files.Sample:
    made = sample(sop_class=REPORT)
    made.pixels = b""
    name = _code(b"121071", b"DCM", TEXT[:60])
    values: list[dict[int, Any]] = [
        {0x0040_A040: ("CS", b"TEXT"), 0x0040_A160: ("UT", TEXT)},
        {0x0040_A040: ("CS", b"PNAME"), 0x0040_A123: ("PN", PERSON)},
        {0x0040_A040: ("CS", b"DATE"), 0x0040_A121: ("DA", DATE.encode())},
        {0x0040_A040: ("CS", b"DATETIME"), 0x0040_A120: ("DT", DATE.encode())},
        {0x0040_A040: ("CS", b"UIDREF"), 0x0040_A124: ("UI", UID.encode())},
        {0x0040_A040: ("CS", b"CODE"), 0x0040_A168: ("SQ", _code(NUMBER.encode(), b"99QX", TEXT[:60]))},
        {0x0040_A040: ("CS", b"NUM"), 0x0040_A300: ("SQ", [{0x0040_A30A: ("DS", NUMBER.encode()),
            0x0040_08EA: ("SQ", _code(b"mm", b"UCUM", TEXT[:60]))}])},
        {0x0040_A040: ("CS", b"IMAGE"), 0x0008_1199: ("SQ", [{0x0008_1155: ("UI", OTHER_UID.encode())}])},
    ]  # fmt: skip
    items = [{0x0040_A010: ("CS", b"CONTAINS"), 0x0040_A043: ("SQ", name)} | value for value in values]
    group = {0x0040_A010: ("CS", b"CONTAINS"), 0x0040_A040: ("CS", b"CONTAINER"), 0x0040_A043: ("SQ", name)}
    return plant(made, {
        0x0008_0060: ("CS", b"SR"), 0x0040_A040: ("CS", b"CONTAINER"), 0x0040_A043: ("SQ", name),
        0x0040_A073: ("SQ", [{0x0040_A075: ("PN", PERSON), 0x0040_A027: ("LO", PLACE.encode())}]),
        0x0040_A078: ("SQ", [{0x0040_A123: ("PN", PERSON)}]),
        0x0040_A730: ("SQ", [*items, group | {0x0040_A730: ("SQ", items)}]),
    })  # fmt: skip


@channel("names in three groups")
def _three_groups() -> files.Sample:
    names = f"{NAME}^A={IDEOGRAPHIC}^B={HANGUL}^C".encode()
    return everywhere({
        0x0008_0005: ("CS", b"ISO_IR 192"), 0x0008_0090: ("PN", names), 0x0010_1001: ("PN", names + b"\\" + names),
        0x0010_1005: ("PN", names), 0x0008_1030: ("LO", f"of {IDEOGRAPHIC} {HANGUL}".encode()),
    })  # fmt: skip


def _names(terms: bytes, texts: dict[str, str]) -> Callable[[], files.Sample]:
    def make() -> files.Sample:
        encoded = b"\\".join(text.encode(codec) for text, codec in texts.items())
        attributes = {0x0008_0090: ("PN", encoded), 0x0008_1030: ("LO", encoded), 0x0008_0070: ("LO", encoded)}
        made = everywhere(attributes | {0x0010_4000: ("LT", encoded)})
        return plant(made, {0x0008_0005: ("CS", terms)})

    return make


for _label, _terms, _texts in (
    ("Latin", b"ISO_IR 100", {NAME: "latin-1"}),
    ("Cyrillic", b"ISO_IR 144", {CYRILLIC: "iso8859_5"}),
    ("Greek", b"ISO_IR 126", {GREEK: "iso8859_7"}),
    ("Japanese of ISO 2022", b"\\ISO 2022 IR 87", {IDEOGRAPHIC: "iso2022_jp"}),
    ("Korean of ISO 2022", b"\\ISO 2022 IR 149", {HANGUL: "iso2022_kr"}),
    ("GB18030", b"GB18030", {IDEOGRAPHIC: "gb18030"}),
    ("UTF-8", b"ISO_IR 192", {CYRILLIC: "utf-8", GREEK: "utf-8"}),
    ("a character set that does not exist", b"QXCANARY", {CYRILLIC: "utf-16"}),
):
    channel(f"names in {_label}")(_names(_terms, _texts))


@channel("dates of other calendars")
def _calendars() -> files.Sample:
    return everywhere({
        0x0010_0033: ("LO", b"13391113"), 0x0010_0034: ("LO", DATE.encode()), 0x0010_0035: ("CS", b"HEBREW"),
    })  # fmt: skip


@channel("URLs")
def _urls() -> files.Sample:
    url = f"https://{PLACE}.example/{NAME}/{NUMBER}?study={UID}".encode()
    return everywhere({
        0x0008_1190: ("UR", url), 0x0008_010E: ("UR", url), 0x0040_E010: ("UR", url), 0x0028_7FE0: ("UR", url),
        0x0008_0120: ("UR", url),
    })  # fmt: skip


@channel("file names")
def _file_names() -> files.Sample:
    path = f"{PLACE}\\{NAME}\\{NUMBER}.DCM".encode()
    return everywhere({
        0x0004_1500: ("CS", path), 0x0004_1130: ("CS", NAME.encode()), 0x2200_0005: ("LT", path), 0x0088_0130: ("SH", path),
        0x0008_1030: ("LO", path.replace(b"\\", b"/")),
    })  # fmt: skip


@channel("references by UID, also inside text")
def _references() -> files.Sample:
    item = {0x0008_1150: ("UI", files.US_IMAGE.encode()), 0x0008_1155: ("UI", OTHER_UID.encode())}
    return everywhere({
        0x0008_1115: ("SQ", [{0x0020_000E: ("UI", OTHER_UID.encode()), 0x0008_1199: ("SQ", [item])}]),
        0x0008_2112: ("SQ", [item]), 0x0008_1030: ("LO", f"compare {UID}".encode()), 0x0018_1030: ("LO", UID.encode()),
        0x0020_0052: ("UI", UID.encode()), 0x0008_0014: ("UI", OTHER_UID.encode()),
    })  # fmt: skip


@channel("multi-valued UIDs")
def _many_uids() -> files.Sample:
    return everywhere(dict.fromkeys((0x0008_001A, 0x0008_0014, 0x0020_9164), ("UI", f"{UID}\\{OTHER_UID}".encode())))


def _refused(sop_class: str, attributes: dict[int, tuple[str, Any]]) -> files.Sample:
    made = plant(sample(sop_class=sop_class), attributes)
    made.pixels = b""
    return made


@channel("presentation state")
def _presentation() -> files.Sample:
    return _refused("1.2.840.10008.5.1.4.1.1.11.1", {0x0070_0001: ("SQ", [{0x0070_0006: ("ST", TEXT)}]),
        0x0070_0084: ("PN", PERSON)})  # fmt: skip


@channel("encapsulated PDF")
def _pdf() -> files.Sample:
    return _refused("1.2.840.10008.5.1.4.1.1.104.1", {0x0042_0011: ("OB", b"%PDF " + TEXT)})


@channel("encapsulated CDA")
def _cda() -> files.Sample:
    return _refused("1.2.840.10008.5.1.4.1.1.104.2", {0x0042_0011: ("OB", b"<ClinicalDocument>" + TEXT)})


@channel("a document inside an image")
def _document_inside() -> files.Sample:
    return plant(sample(), {0x0042_0010: ("ST", TEXT), 0x0042_0011: ("OB", b"%PDF " + TEXT), 0x0042_0012: ("LO", TEXT)})


@channel("video")
def _video() -> files.Sample:
    return _compressed([TEXT + b" " * (len(TEXT) % 2)], "1.2.840.10008.1.2.4.102", "YBR_FULL")


@channel("text written as numbers")
def _as_numbers() -> files.Sample:
    made = sample()
    numbers = {tag: ("FD", NAME.encode()) for tag in (0x0018_6028, 0x0018_602A, 0x0018_602C, 0x0018_6034)}
    made.attributes[0x0018_6011][1][0].update(numbers | {0x0018_6030: ("UL", NAME[:4].encode())})
    return plant(made, dict.fromkeys((0x0018_0040, 0x0018_5050, 0x0020_0011, 0x0020_0013), ("IS", NUMBER.encode())) | {
        0x0018_1063: ("DS", NUMBER.encode()), 0x0028_0030: ("DS", f"{NUMBER}\\{NUMBER}".encode()),
    })  # fmt: skip


@channel("text in the pixels around the region")
def _around() -> files.Sample:
    made = sample()
    pixels = bytearray(made.pixels)
    pixels[: len(TEXT)] = TEXT
    pixels[files.COLUMNS * 55 : files.COLUMNS * 55 + len(TEXT)] = TEXT
    made.pixels = bytes(pixels)
    return made


def searched(data: bytes) -> list[str]:
    """Return what of the planted identifiers is in some bytes, and in which encoding."""
    found = [f"{form.text} as {form.encoding}" for form in EVERY.find(data)]
    return found + [f"{form!r}" for form in OTHER_FORMS if len(form) > 5 and form in data]
