"""Fetal phantoms and the synthetic ultrasound DICOM made from them.

For training: `render_sector`. For screens: `render`, `record`. For DICOM: `make_instance`, `make_study`.
"""

from fetalmlops.domain.simulation.instances import SimulatedInstance, make_instance, stored_frames
from fetalmlops.domain.simulation.pixels import Layout, Photometric
from fetalmlops.domain.simulation.rendering import Burned, Recording, Screen, record, render, render_sector
from fetalmlops.domain.simulation.scanners import SCANNERS, Scanner, find_scanner
from fetalmlops.domain.simulation.sector import Region
from fetalmlops.domain.simulation.specs import BurnIn, InstanceSpec, Kind
from fetalmlops.domain.simulation.studies import StudySpec, make_study, plan_study

__all__ = [
    "SCANNERS",
    "BurnIn",
    "Burned",
    "InstanceSpec",
    "Kind",
    "Layout",
    "Photometric",
    "Recording",
    "Region",
    "Scanner",
    "Screen",
    "SimulatedInstance",
    "StudySpec",
    "find_scanner",
    "make_instance",
    "make_study",
    "plan_study",
    "record",
    "render",
    "render_sector",
    "stored_frames",
]
