"""The modules of a simulated instance's dataset (PS3.3 Annex C), with identifiers planted wherever scanners put them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fetalmlops.domain.simulation.encoding import LOSSY_METHODS
from fetalmlops.domain.simulation.identities import make_uid
from fetalmlops.domain.simulation.pixels import PALETTE, Photometric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetalmlops.domain.simulation.identities import Identity
    from fetalmlops.domain.simulation.sector import Region
    from fetalmlops.domain.simulation.specs import InstanceSpec

__all__ = ["add_common", "add_image", "add_lossy_record", "code", "planted_strings"]

_DATE_VRS = frozenset({"DA", "DT", "TM"})
_TEXT_VRS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code sequence's item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def add_common(dataset: Dataset, spec: InstanceSpec, identity: Identity) -> None:
    """Add patient, study, series, equipment and SOP common modules, and private attributes."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = spec.sop_class_uid
    dataset.SOPInstanceUID = spec.sop_instance_uid
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = identity.study_date, identity.study_time
    dataset.InstanceNumber = spec.number
    dataset.ContentDate, dataset.ContentTime = identity.study_date, identity.study_time
    _add_patient(dataset, identity)
    _add_study(dataset, spec, identity)
    _add_series(dataset, spec, identity)
    _add_equipment(dataset, spec, identity)
    _add_history(dataset, identity)
    _add_private(dataset, identity)


def _add_patient(dataset: Dataset, identity: Identity) -> None:
    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.IssuerOfPatientID = identity.word("ISSUER")
    dataset.PatientBirthDate = identity.birth_date
    dataset.PatientSex = "F"
    dataset.PregnancyStatus = 3
    dataset.LastMenstrualDate = identity.menstrual_date
    dataset.PatientAddress = identity.text("ADDRESS")
    dataset.PatientTelephoneNumbers = identity.word("TEL")
    dataset.PatientComments = identity.text("COMMENT")
    dataset.AdditionalPatientHistory = identity.text("HISTORY")
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID, other.TypeOfPatientID = identity.word("OID"), identity.word("OI"), "TEXT"
    dataset.OtherPatientIDsSequence = [other]


def _add_study(dataset: Dataset, spec: InstanceSpec, identity: Identity) -> None:
    dataset.StudyInstanceUID = spec.study_instance_uid
    dataset.StudyDate, dataset.StudyTime = identity.study_date, identity.study_time
    dataset.StudyID = identity.word("ST")
    dataset.AccessionNumber = identity.accession
    dataset.ReferringPhysicianName = identity.person("REFERRER")
    dataset.PhysiciansOfRecord = identity.person("PHYSICIAN")
    dataset.NameOfPhysiciansReadingStudy = identity.person("READER")
    dataset.StudyDescription = f"CANARY STUDY {identity.token}"


def _add_series(dataset: Dataset, spec: InstanceSpec, identity: Identity) -> None:
    dataset.Modality = "US" if spec.is_image else "SR"
    dataset.SeriesInstanceUID = spec.series_instance_uid
    dataset.SeriesNumber = 1 if spec.is_image else 2
    dataset.SeriesDate, dataset.SeriesTime = identity.study_date, identity.study_time
    dataset.SeriesDescription = f"CANARY SERIES {identity.token}"
    if spec.is_image:
        dataset.Laterality = ""
        dataset.OperatorsName = identity.person("OPERATOR")
        dataset.PerformingPhysicianName = identity.person("PERFORMER")
        dataset.ProtocolName = f"CANARY PROTOCOL {identity.token}"
        dataset.PerformedProcedureStepID = identity.word("PP")
        dataset.PerformedProcedureStepStartDate = identity.study_date
        dataset.PerformedProcedureStepDescription = identity.text("STEP")
        request = Dataset()
        request.RequestedProcedureID = identity.word("RP")
        request.ScheduledProcedureStepID = identity.word("SP")
        request.ScheduledProcedureStepDescription = f"CANARY STEP {identity.token}"
        dataset.RequestAttributesSequence = [request]


def _add_equipment(dataset: Dataset, spec: InstanceSpec, identity: Identity) -> None:
    scanner = spec.scanner
    dataset.Manufacturer, dataset.ManufacturerModelName = scanner.manufacturer, scanner.model
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = scanner.software, scanner.serial
    dataset.StationName = scanner.station
    dataset.InstitutionName = identity.institution
    dataset.InstitutionAddress = identity.text("PLACE")
    dataset.InstitutionalDepartmentName = f"CANARY WARD {identity.token}"


def _add_history(dataset: Dataset, identity: Identity) -> None:
    """Add sequences that keep identifiers one and two levels down."""
    before = Dataset()
    before.PatientName, before.PatientID = identity.person("FORMERNAME"), identity.word("FORMERID")
    change = Dataset()
    change.SourceOfPreviousValues = f"CANARY SOURCE {identity.token}"
    change.AttributeModificationDateTime = identity.study_time_stamp
    change.ModifyingSystem = f"CANARY SYSTEM {identity.token}"
    change.ReasonForTheAttributeModification = "CORRECT"
    change.ModifiedAttributesSequence = [before]
    dataset.OriginalAttributesSequence = [change]
    device = Dataset()
    device.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    device.Manufacturer = "SIMULATED GATEWAY"
    device.InstitutionName = f"CANARY GATEWAY {identity.token}"
    device.StationName = identity.word("GATE")
    device.ContributionDateTime = identity.study_time_stamp
    dataset.ContributingEquipmentSequence = [device]


def _add_private(dataset: Dataset, identity: Identity) -> None:
    block = dataset.private_block(0x0019, "SIMULATED PRIVATE 01", create=True)
    block.add_new(0x01, "LO", identity.word("PRIVATE"))
    block.add_new(0x02, "PN", identity.person("PRIVATEPERSON"))
    block.add_new(0x03, "DA", identity.birth_date)
    block.add_new(0x04, "UN", identity.text("UNKNOWN").ljust(80).encode())
    nested = Dataset()
    nested.PatientName = identity.person("PRIVATENESTED")
    block.add_new(0x05, "SQ", [nested])


def add_image(dataset: Dataset, spec: InstanceSpec, region: Region) -> None:
    """Add image, pixel, calibration, cine and secondary capture modules, but not the pixels."""
    identity_present = spec.burn_in != "none"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"] if _is_ultrasound(spec) else ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = ""
    dataset.AcquisitionDateTime = dataset.StudyDate + dataset.StudyTime
    dataset.ImageComments = f"CANARY IMAGE OF {dataset.PatientID}"
    dataset.BurnedInAnnotation = "YES" if identity_present else "NO"
    dataset.FrameOfReferenceUID = make_uid("frame of reference", spec.study)
    dataset.PositionReferenceIndicator = ""
    _add_pixel_description(dataset, spec)
    if spec.regions:
        dataset.SequenceOfUltrasoundRegions = [_region_item(region, spec)]
    if _is_ultrasound(spec):
        dataset.UltrasoundColorDataPresent = 0
        dataset.TransducerData = [f"CANARY PROBE {dataset.DeviceSerialNumber}"]
    else:
        _add_secondary_capture(dataset, spec)
    if spec.kind.value.find("multiframe") >= 0:
        _add_cine(dataset, spec)


def _is_ultrasound(spec: InstanceSpec) -> bool:
    return spec.kind.value.startswith("ultrasound")


def _add_pixel_description(dataset: Dataset, spec: InstanceSpec) -> None:
    layout = spec.layout
    dataset.SamplesPerPixel = layout.samples
    dataset.PhotometricInterpretation = str(layout.photometric)
    dataset.Rows, dataset.Columns = spec.scanner.rows, spec.scanner.columns
    dataset.BitsAllocated, dataset.BitsStored = layout.bits_allocated, layout.bits
    dataset.HighBit, dataset.PixelRepresentation = layout.bits - 1, 0
    if layout.colour:
        dataset.PlanarConfiguration = layout.planar
    if layout.photometric is Photometric.PALETTE:
        order = ">u2" if spec.transfer_syntax == uid.ExplicitVRBigEndian else "<u2"
        for name, channel in zip(("Red", "Green", "Blue"), PALETTE.T, strict=True):
            setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(
                dataset, f"{name}PaletteColorLookupTableData", (channel.astype(np.uint16) * 257).astype(order).tobytes()
            )


def _region_item(region: Region, spec: InstanceSpec) -> Dataset:
    """Return the region of the image (PS3.3 C.8.5.5): two-dimensional, tissue, in centimetres."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, 1
    item.RegionFlags = 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = region.x0, region.y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = region.x1, region.y1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = region.delta_cm
    item.ReferencePixelX0, item.ReferencePixelY0 = region.reference
    item.ReferencePixelPhysicalValueX = item.ReferencePixelPhysicalValueY = 0.0
    item.TransducerFrequency = round(spec.scanner.probes[0].megahertz * 1000)
    return item


def _add_cine(dataset: Dataset, spec: InstanceSpec) -> None:
    dataset.NumberOfFrames = spec.frames
    dataset.FrameIncrementPointer = Tag("FrameTime")
    dataset.FrameTime = spec.frame_ms
    if _is_ultrasound(spec):
        dataset.CineRate = max(1, round(1000 / spec.frame_ms))


def _add_secondary_capture(dataset: Dataset, spec: InstanceSpec) -> None:
    dataset.ConversionType = "WSD"
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.StudyDate, dataset.StudyTime
    if spec.kind.value.endswith("grey"):
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
        dataset.PresentationLUTShape = "IDENTITY"


def add_lossy_record(dataset: Dataset, spec: InstanceSpec, frame_bytes: int) -> None:
    """Say whether the pixels went through lossy compression, by how much and how."""
    method = LOSSY_METHODS.get(uid.UID(spec.transfer_syntax))
    dataset.LossyImageCompression = "00" if method is None else "01"
    if method is not None:
        native = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        dataset.LossyImageCompressionRatio = round(native / frame_bytes, 3)
        dataset.LossyImageCompressionMethod = method


def planted_strings(dataset: Dataset) -> tuple[str, ...]:
    """Return every identifying string of a simulated dataset, at any depth, each once and in order of the header."""
    return tuple(dict.fromkeys(_planted(dataset)))


def _planted(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        values = element.value if element.VM > 1 else [element.value]
        for value in values if element.VR != "SQ" else ():
            if (element.VR in _DATE_VRS and value) or (element.VR == "UI" and str(value).startswith("2.25.")):
                yield str(value)
            elif element.VR in _TEXT_VRS and "CANARY" in str(value):
                yield from str(value).split("=") if element.VR == "PN" else (str(value),)
            elif element.VR == "UN" and b"CANARY" in value:
                yield value.decode().strip()
