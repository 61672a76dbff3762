"""What exports keep beyond the stream: dates, the device, the patient's characteristics, descriptors; each under its option."""

from __future__ import annotations

from enum import StrEnum

from fetalmlops.domain.deid.rules.attributes import Keep
from fetalmlops.domain.deid.rules.checks import Age, Moments, Numbers, Phrase, Place, Vocabulary, Words

__all__ = ["GROUPS", "Group"]


class Group(StrEnum):
    """A group of attributes that a profile may keep."""

    DATES = "dates"
    DEVICE = "device"
    PATIENT = "patient"
    DESCRIPTORS = "descriptors"
    INSTITUTION = "institution"
    REFERENCES = "references"


_MOMENTS, _PHRASE, _PLACE = Moments(), Phrase(), Place()
_VOCABULARY = Vocabulary(
    frozenset(
        [
            "2D",
            "3D",
            "4D",
            "ABDOMEN",
            "ABDOMINAL",
            "AMNIOTIC",
            "AND",
            "ANATOMY",
            "ANOMALY",
            "AORTA",
            "ARTERY",
            "AXIAL",
            "BIOMETRY",
            "BIOPHYSICAL",
            "BPD",
            "BRAIN",
            "CARDIAC",
            "CEREBELLUM",
            "CEREBRAL",
            "CERVIX",
            "CHAMBER",
            "CINE",
            "COLOR",
            "COLOUR",
            "CORONAL",
            "CRL",
            "DATING",
            "DOPPLER",
            "DUCTUS",
            "DYNAMIC",
            "ECHO",
            "EXAM",
            "EXAMINATION",
            "FACE",
            "FEMUR",
            "FETAL",
            "FETUS",
            "FIRST",
            "FLOW",
            "FLUID",
            "FOETAL",
            "FOLLOW",
            "FOUR",
            "GESTATION",
            "GROWTH",
            "GYN",
            "GYNAECOLOGY",
            "GYNECOLOGY",
            "HEAD",
            "HEART",
            "HUMERUS",
            "II",
            "III",
            "IMAGE",
            "KIDNEY",
            "LATE",
            "LEFT",
            "LENGTH",
            "LEVEL",
            "LIMB",
            "LIPS",
            "LIVER",
            "LOOP",
            "LOWER",
            "M",
            "MEASUREMENT",
            "MIDDLE",
            "MODE",
            "MULTIPLE",
            "NECK",
            "NT",
            "NUCHAL",
            "OB",
            "OBSTETRIC",
            "OBSTETRICAL",
            "OBSTETRICS",
            "OF",
            "OUTFLOW",
            "OVARY",
            "PELVIS",
            "PLACENTA",
            "PLANE",
            "POWER",
            "PREGNANCY",
            "PROFILE",
            "PULSED",
            "RIGHT",
            "ROUTINE",
            "SAGITTAL",
            "SCAN",
            "SCREENING",
            "SECOND",
            "SINGLE",
            "SPINE",
            "STANDARD",
            "STOMACH",
            "STUDY",
            "SURVEY",
            "TA",
            "THIRD",
            "THORAX",
            "TRACT",
            "TRANS",
            "TRANSABDOMINAL",
            "TRANSCEREBELLAR",
            "TRANSLUCENCY",
            "TRANSTHALAMIC",
            "TRANSVAGINAL",
            "TRANSVENTRICULAR",
            "TRANSVERSE",
            "TRIMESTER",
            "TV",
            "TWIN",
            "TWINS",
            "ULTRASOUND",
            "UMBILICAL",
            "UP",
            "UPPER",
            "US",
            "UTERINE",
            "UTERUS",
            "VENOSUS",
            "VENTRICLE",
            "VESSEL",
            "VIEW",
            "VOLUME",
            "WEEK",
            "WEEKS",
        ]
    )
)

GROUPS: dict[Group, tuple[Keep, ...]] = {
    Group.DATES: (
        Keep(0x0008_0020, "StudyDate", "DA", _MOMENTS),
        Keep(0x0008_0021, "SeriesDate", "DA", _MOMENTS),
        Keep(0x0008_0022, "AcquisitionDate", "DA", _MOMENTS),
        Keep(0x0008_0023, "ContentDate", "DA", _MOMENTS),
        Keep(0x0008_002A, "AcquisitionDateTime", "DT", _MOMENTS),
        Keep(0x0008_0030, "StudyTime", "TM", _MOMENTS),
        Keep(0x0008_0031, "SeriesTime", "TM", _MOMENTS),
        Keep(0x0008_0032, "AcquisitionTime", "TM", _MOMENTS),
        Keep(0x0008_0033, "ContentTime", "TM", _MOMENTS),
        Keep(0x0010_21D0, "LastMenstrualDate", "DA", _MOMENTS),
    ),
    Group.DEVICE: (
        Keep(0x0008_0070, "Manufacturer", "LO", _PHRASE),
        Keep(0x0008_1090, "ManufacturerModelName", "LO", _PHRASE),
        Keep(0x0018_1020, "SoftwareVersions", "LO", _PHRASE),
        Keep(0x0018_5010, "TransducerData", "LO", _PHRASE),
        Keep(0x0018_5020, "ProcessingFunction", "LO", _PHRASE),
        Keep(0x0018_6031, "TransducerType", "CS", Words(("SECTOR_PHASED", "SECTOR_MECH", "SECTOR_ANNULAR", "LINEAR",
            "CURVED LINEAR", "SINGLE CRYSTAL", "SPLIT XTAL CWD", "IV_PHASED", "IV_ROT XTAL", "IV_ROT MIRROR", "ENDOCAV_PA",
            "ENDOCAV_MECH", "ENDOCAV_CLA", "ENDOCAV_AA", "ENDOCAV_LINEAR", "VECTOR_PHASED"))),
    ),
    Group.PATIENT: (
        Keep(0x0010_0040, "PatientSex", "CS", Words(("F", "M", "O"))),
        Keep(0x0010_1010, "PatientAge", "AS", Age()),
        Keep(0x0010_1020, "PatientSize", "DS", Numbers(0.2, 2.6)),
        Keep(0x0010_1030, "PatientWeight", "DS", Numbers(0.2, 400)),
        Keep(0x0010_21C0, "PregnancyStatus", "US", Numbers(1, 4)),
    ),
    Group.DESCRIPTORS: (
        Keep(0x0008_1030, "StudyDescription", "LO", _VOCABULARY),
        Keep(0x0008_103E, "SeriesDescription", "LO", _VOCABULARY),
        Keep(0x0018_1030, "ProtocolName", "LO", _VOCABULARY),
        Keep(0x0008_2120, "StageName", "SH", _VOCABULARY),
        Keep(0x0008_2127, "ViewName", "SH", _VOCABULARY),
    ),
    Group.INSTITUTION: (
        Keep(0x0008_0080, "InstitutionName", "LO", _PLACE),
        Keep(0x0008_0081, "InstitutionAddress", "ST", _PLACE),
        Keep(0x0008_1040, "InstitutionalDepartmentName", "LO", _PLACE),
    ),
    Group.REFERENCES: (),
}  # fmt: skip
"""Attributes by group; references to images are sequences, which have their own rule.

Of text only known words stay, or what looks like a product or an institution, and nothing that names the patient.
"""
