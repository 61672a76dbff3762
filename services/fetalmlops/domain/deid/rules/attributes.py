"""The rules as data: what of an instance is kept, and how it must look. All that is not named here is removed.

The base is PS3.15 Annex E, Table E.1-1, Basic Application Level Confidentiality Profile: no attribute that the table removes is
kept, and no attribute outside this list survives, whatever the table says of it. Dates and times are never kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fetalmlops.domain.contracts.sop_classes import DOCUMENT_CLASSES
from fetalmlops.domain.deid.rules.checks import Check, Numbers, Words

__all__ = [
    "BURNED_IN_TAG",
    "DEFAULTS",
    "DOCUMENT",
    "EMPTIED",
    "ENHANCED_VOLUME",
    "IMAGE",
    "IMAGE_TYPE_WORDS",
    "KEY_OBJECTS",
    "PALETTE",
    "REFERENCES",
    "REGION",
    "REGIONS_TAG",
    "SOP_CLASSES",
    "Keep",
    "Kind",
]


class Kind(StrEnum):
    """What an instance is, which decides its keep list and what can prove its pixels."""

    ULTRASOUND = "ultrasound"
    CAPTURE = "capture"
    DOCUMENT = "document"


@dataclass(frozen=True)
class Keep:
    """An attribute that is kept if its value passes `check`."""

    tag: int
    keyword: str
    vr: str
    check: Check


_STORAGE = "1.2.840.10008.5.1.4.1.1."
SOP_CLASSES: dict[str, Kind] = {
    **dict.fromkeys((_STORAGE + "6.1", _STORAGE + "3.1", _STORAGE + "6", _STORAGE + "3"), Kind.ULTRASOUND),
    **dict.fromkeys((_STORAGE + "7", _STORAGE + "7.2", _STORAGE + "7.3", _STORAGE + "7.4"), Kind.CAPTURE),
    **dict.fromkeys(DOCUMENT_CLASSES, Kind.DOCUMENT),
}
"""The classes that are handled. Single-bit captures, accepted on the network, are not."""

KEY_OBJECTS = _STORAGE + "88.59"
"""Key Object Selection Document Storage."""

ENHANCED_VOLUME = _STORAGE + "6.2"
"""Enhanced US Volume Storage, accepted on the network and refused here: its functional groups are not rebuilt."""

_WHOLE = 65535
_COUNT = Numbers(0, 99_999)
_FACTOR = Numbers(-1e6, 1e6)
_SIZE = Numbers(0, 1e6)

SERIES: tuple[Keep, ...] = (
    Keep(0x0020_0011, "SeriesNumber", "IS", _COUNT),
    Keep(0x0020_0013, "InstanceNumber", "IS", _COUNT),
)

BURNED_IN_TAG = 0x0028_0301
"""Burned In Annotation: NO is never believed, and YES always."""

IMAGE: tuple[Keep, ...] = (
    *SERIES,
    Keep(0x0008_0060, "Modality", "CS", Words(("US", "OT", "IVUS", "ES", "XC"))),
    Keep(0x0008_0064, "ConversionType", "CS", Words(("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"))),
    Keep(0x0008_2144, "RecommendedDisplayFrameRate", "IS", Numbers(1, 1000)),
    Keep(0x0018_0040, "CineRate", "IS", Numbers(1, 1000)),
    Keep(0x0018_1063, "FrameTime", "DS", Numbers(0, 100_000)),
    Keep(0x0018_1065, "FrameTimeVector", "DS", Numbers(0, 100_000, 1, 10_000)),
    Keep(0x0018_5022, "MechanicalIndex", "DS", Numbers(0, 10)),
    Keep(0x0018_5024, "BoneThermalIndex", "DS", Numbers(0, 20)),
    Keep(0x0018_5026, "CranialThermalIndex", "DS", Numbers(0, 20)),
    Keep(0x0018_5027, "SoftTissueThermalIndex", "DS", Numbers(0, 20)),
    Keep(0x0018_5050, "DepthOfScanField", "IS", Numbers(1, 1000)),
    Keep(0x0028_0002, "SamplesPerPixel", "US", Numbers(1, 3)),
    Keep(
        0x0028_0004,
        "PhotometricInterpretation",
        "CS",
        Words(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")),
    ),
    Keep(0x0028_0006, "PlanarConfiguration", "US", Numbers(0, 1)),
    Keep(0x0028_0008, "NumberOfFrames", "IS", Numbers(1, 100_000)),
    Keep(0x0028_0010, "Rows", "US", Numbers(1, _WHOLE)),
    Keep(0x0028_0011, "Columns", "US", Numbers(1, _WHOLE)),
    Keep(0x0028_0014, "UltrasoundColorDataPresent", "US", Numbers(0, 1)),
    Keep(0x0028_0030, "PixelSpacing", "DS", Numbers(1e-4, 100, 2, 2)),
    Keep(0x0028_0034, "PixelAspectRatio", "IS", Numbers(1, _WHOLE, 2, 2)),
    Keep(0x0028_0100, "BitsAllocated", "US", Numbers(8, 16)),
    Keep(0x0028_0101, "BitsStored", "US", Numbers(1, 16)),
    Keep(0x0028_0102, "HighBit", "US", Numbers(0, 15)),
    Keep(0x0028_0103, "PixelRepresentation", "US", Numbers(0, 1)),
    Keep(BURNED_IN_TAG, "BurnedInAnnotation", "CS", Words(("NO",))),
    Keep(0x0028_1050, "WindowCenter", "DS", Numbers(-_WHOLE, _WHOLE)),
    Keep(0x0028_1051, "WindowWidth", "DS", Numbers(1, _WHOLE)),
    Keep(0x0028_1052, "RescaleIntercept", "DS", Numbers(-_WHOLE, _WHOLE)),
    Keep(0x0028_1053, "RescaleSlope", "DS", Numbers(-_WHOLE, _WHOLE)),
    Keep(0x0028_1054, "RescaleType", "LO", Words(("US", "OD", "HU"))),
    Keep(0x0028_2110, "LossyImageCompression", "CS", Words(("00", "01"))),
    Keep(0x0028_2112, "LossyImageCompressionRatio", "DS", Numbers(0.1, 10_000, 1, 4)),
    Keep(
        0x0028_2114,
        "LossyImageCompressionMethod",
        "CS",
        Words(("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_13818_2"), 4),
    ),
    Keep(0x2050_0020, "PresentationLUTShape", "CS", Words(("IDENTITY", "INVERSE"))),
)
"""Kept of an image: what decoding, spacing and frame timing need."""

REFERENCES = (0x0008_1140, 0x0008_2112)
"""Referenced Image Sequence and Source Image Sequence: kept by a profile's group, as keyed UIDs and known classes."""

REGIONS_TAG = 0x0018_6011
"""Sequence of Ultrasound Regions."""

REGION: tuple[Keep, ...] = (
    Keep(0x0018_6012, "RegionSpatialFormat", "US", Numbers(0, 5)),
    Keep(0x0018_6014, "RegionDataType", "US", Numbers(0, 0x12)),
    Keep(0x0018_6016, "RegionFlags", "UL", Numbers(0, 0xFF)),
    Keep(0x0018_6018, "RegionLocationMinX0", "UL", Numbers(0, _WHOLE)),
    Keep(0x0018_601A, "RegionLocationMinY0", "UL", Numbers(0, _WHOLE)),
    Keep(0x0018_601C, "RegionLocationMaxX1", "UL", Numbers(0, _WHOLE)),
    Keep(0x0018_601E, "RegionLocationMaxY1", "UL", Numbers(0, _WHOLE)),
    Keep(0x0018_6020, "ReferencePixelX0", "SL", Numbers(-_WHOLE, _WHOLE)),
    Keep(0x0018_6022, "ReferencePixelY0", "SL", Numbers(-_WHOLE, _WHOLE)),
    Keep(0x0018_6024, "PhysicalUnitsXDirection", "US", Numbers(0, 0x0C)),
    Keep(0x0018_6026, "PhysicalUnitsYDirection", "US", Numbers(0, 0x0C)),
    Keep(0x0018_6028, "ReferencePixelPhysicalValueX", "FD", _FACTOR),
    Keep(0x0018_602A, "ReferencePixelPhysicalValueY", "FD", _FACTOR),
    Keep(0x0018_602C, "PhysicalDeltaX", "FD", _FACTOR),
    Keep(0x0018_602E, "PhysicalDeltaY", "FD", _FACTOR),
    Keep(0x0018_6030, "TransducerFrequency", "UL", _SIZE),
    Keep(0x0018_6032, "PulseRepetitionFrequency", "UL", _SIZE),
    Keep(0x0018_6034, "DopplerCorrectionAngle", "FD", Numbers(-360, 360)),
    Keep(0x0018_6036, "SteeringAngle", "FD", Numbers(-360, 360)),
    Keep(0x0018_6044, "PixelComponentOrganization", "US", Numbers(0, 3)),
    Keep(0x0018_6046, "PixelComponentMask", "UL", Numbers(0, 0xFF_FFFF)),
    Keep(0x0018_6048, "PixelComponentRangeStart", "UL", Numbers(0, 0xFF_FFFF)),
    Keep(0x0018_604A, "PixelComponentRangeStop", "UL", Numbers(0, 0xFF_FFFF)),
    Keep(0x0018_604C, "PixelComponentPhysicalUnits", "US", Numbers(0, 0x0C)),
    Keep(0x0018_604E, "PixelComponentDataType", "US", Numbers(0, 0x0B)),
    Keep(0x0018_6050, "NumberOfTableBreakPoints", "UL", Numbers(0, 4096)),
    Keep(0x0018_6052, "TableOfXBreakPoints", "UL", Numbers(0, _WHOLE, 1, 4096)),
    Keep(0x0018_6054, "TableOfYBreakPoints", "FD", Numbers(-1e6, 1e6, 1, 4096)),
)
"""Kept of an ultrasound region (PS3.3 C.8.5.5): numbers only."""

PALETTE = (0x0028_1101, 0x0028_1102, 0x0028_1103, 0x0028_1201, 0x0028_1202, 0x0028_1203)
"""Descriptors, then data, of the red, green and blue palette (PS3.3 C.7.9): kept where the pixels need them."""

IMAGE_TYPE_WORDS: tuple[frozenset[str], ...] = (
    frozenset({"ORIGINAL", "DERIVED"}),
    frozenset({"PRIMARY", "SECONDARY"}),
    frozenset(
        {
            "ABDOMINAL",
            "BREAST",
            "CHEST",
            "ENDOCAVITARY",
            "ENDORECTAL",
            "ENDOVAGINAL",
            "EPICARDIAL",
            "FETAL HEART",
            "GYNECOLOGY",
            "INTRAOPERATIVE",
            "INTRACARDIAC",
            "INTRAVASCULAR",
            "MUSCULOSKELETAL",
            "NEONATAL HEAD",
            "OBSTETRICAL",
            "OPHTHALMIC",
            "PELVIC",
            "RETROPERITONEAL",
            "SCROTAL",
            "SMALL PARTS",
            "TRANSCRANIAL",
            "TRANSESOPHAGEAL",
            "TRANSRECTAL",
            "TRANSTHORACIC",
            "TRANSVAGINAL",
            "VASCULAR",
        }
    ),
)
"""Words of Image Type by position (PS3.3 C.7.6.1.1.2 and C.8.5.6.1.1); others become empty."""

DOCUMENT: tuple[Keep, ...] = (
    *SERIES,
    Keep(0x0008_0060, "Modality", "CS", Words(("SR", "KO"))),
)
"""Kept of a document beyond its content, without the dates that the standard requires of documents."""

_EMPTIED_ALWAYS = (
    (0x0008_0020, "DA"),
    (0x0008_0030, "TM"),
    (0x0008_0050, "SH"),
    (0x0008_0070, "LO"),
    (0x0008_0090, "PN"),
    (0x0010_0010, "PN"),
    (0x0010_0030, "DA"),
    (0x0010_0040, "CS"),
    (0x0020_0010, "SH"),
    (0x0020_0011, "IS"),
    (0x0020_0013, "IS"),
)
_EMPTIED_IMAGE = (*_EMPTIED_ALWAYS, (0x0020_0020, "CS"), (0x0020_0060, "CS"))

EMPTIED: dict[Kind, tuple[tuple[int, str], ...]] = {
    Kind.ULTRASOUND: _EMPTIED_IMAGE,
    Kind.CAPTURE: _EMPTIED_IMAGE,
    Kind.DOCUMENT: (*_EMPTIED_ALWAYS, (0x0008_1111, "SQ"), (0x0040_A372, "SQ")),
}
"""Attributes that the standard requires to be present (type 2): written without a value unless theirs is kept."""

DEFAULTS: dict[Kind, tuple[tuple[int, str, str], ...]] = {
    Kind.ULTRASOUND: ((0x0008_0060, "CS", "US"),),
    Kind.CAPTURE: ((0x0008_0060, "CS", "OT"), (0x0008_0064, "CS", "WSD")),
    Kind.DOCUMENT: ((0x0008_0060, "CS", "SR"),),
}
"""Attributes that the standard requires to have a value (type 1): written with this one unless theirs is kept."""
