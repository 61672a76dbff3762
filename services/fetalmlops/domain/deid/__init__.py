"""De-identification of ultrasound DICOM: default-deny, fails closed, the same bytes everywhere."""

from fetalmlops.domain.deid.engine import Deidentified, Deidentifier
from fetalmlops.domain.deid.faults import Refusal
from fetalmlops.domain.deid.identity import (
    Identity,
    InstanceIdentity,
    PatientIdentity,
    Pseudonyms,
    StudyIdentity,
    Vault,
    patient_pseudonym,
)
from fetalmlops.domain.deid.rules.profile import PROFILES, STREAM, Profile

__all__ = [
    "PROFILES",
    "STREAM",
    "Deidentified",
    "Deidentifier",
    "Identity",
    "InstanceIdentity",
    "PatientIdentity",
    "Profile",
    "Pseudonyms",
    "Refusal",
    "StudyIdentity",
    "Vault",
    "patient_pseudonym",
]
