"""Structured reports without an image: instances that the system stores and then calls not applicable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from fetalmlops.domain.simulation.modules import code

if TYPE_CHECKING:
    from fetalmlops.domain.simulation.identities import Identity
    from fetalmlops.domain.simulation.specs import InstanceSpec

__all__ = ["add_document"]


def add_document(dataset: Dataset, spec: InstanceSpec, identity: Identity) -> None:
    """Add the SR document modules: a finding in words and, in a comprehensive report, a measurement."""
    dataset.CompletionFlag, dataset.VerificationFlag = "PARTIAL", "UNVERIFIED"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [code("11525-3", "LN", "US Pelvis Fetus for pregnancy")]
    observer = _item("HAS OBS CONTEXT", "PNAME", code("121008", "DCM", "Person Observer Name"))
    observer.PersonName = identity.person("OBSERVER")
    finding = _item("CONTAINS", "TEXT", code("121071", "DCM", "Finding"))
    finding.TextValue = identity.text("FINDING")
    content = [observer, finding]
    if spec.kind.value.startswith("comprehensive"):
        content.append(_measurement())
    dataset.ContentSequence = content


def _item(relationship: str, value_type: str, concept: Dataset) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = relationship, value_type, [concept]
    return item


def _measurement() -> Dataset:
    number = _item("CONTAINS", "NUM", code("11820-8", "LN", "Biparietal Diameter"))
    value = Dataset()
    value.NumericValue = "52.3"
    value.MeasurementUnitsCodeSequence = [code("mm", "UCUM", "millimeter")]
    number.MeasuredValueSequence = [value]
    return number
