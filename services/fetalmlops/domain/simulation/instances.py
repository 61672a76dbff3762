"""Simulated DICOM instances: valid Part 10 files with planted identifiers."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from fetalmlops.domain.simulation import modules, reports
from fetalmlops.domain.simulation.encoding import encode_frame
from fetalmlops.domain.simulation.identities import Identity, make_uid
from fetalmlops.domain.simulation.rendering import CYCLE, Burned, Recording, record
from fetalmlops.domain.simulation.specs import BurnIn, InstanceSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fetalmlops.domain.simulation.sector import Region

__all__ = ["SimulatedInstance", "make_instance", "stored_frames"]


@dataclass(frozen=True, kw_only=True)
class SimulatedInstance:
    """A simulated instance.

    Parameters
    ----------
    spec
        What it was made from.
    data
        The Part 10 file.
    planted
        Every identifying string in its header: names, numbers, dates, texts, UIDs. None may be found outside the phi zone.
    burned_in
        Every identifying line in its pixels.
    region
        Where the pixels show the image; None for a report.
    """

    spec: InstanceSpec
    data: bytes = field(repr=False)
    planted: tuple[str, ...] = field(repr=False)
    burned_in: tuple[str, ...] = field(repr=False)
    region: Region | None


def make_instance(spec: InstanceSpec) -> SimulatedInstance:
    """Simulate one instance.

    A cine is rendered and encoded frame by frame; frames repeat after `CYCLE`, so that only so many are ever made.

    Examples
    --------
    >>> from fetalmlops.domain.contracts.planes import Plane
    >>> instance = make_instance(InstanceSpec(plane=Plane.FEMUR))
    >>> instance.data[128:132], len(instance.planted) > 20
    (b'DICM', True)
    """
    identity = Identity.of_study(spec.study)
    dataset = Dataset()
    modules.add_common(dataset, spec, identity)
    region: Region | None = None
    burned_in: tuple[str, ...] = ()
    if spec.is_image:
        recording, burned_in = _recording(spec, identity)
        region = recording.region
        modules.add_image(dataset, spec, region)
        _add_pixels(dataset, spec, recording)
    else:
        reports.add_document(dataset, spec, identity)
    return SimulatedInstance(
        spec=spec,
        data=_part10(dataset, spec),
        planted=modules.planted_strings(dataset),
        burned_in=burned_in,
        region=region,
    )


def stored_frames(spec: InstanceSpec) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
    """Yield the frames of an instance before encoding: what a lossless decoder must give back, RGB for colour."""
    recording, _ = _recording(spec, Identity.of_study(spec.study))
    for frame in recording.frames(spec.frames):
        yield spec.layout.stored(frame)


def _recording(spec: InstanceSpec, identity: Identity) -> tuple[Recording, tuple[str, ...]]:
    banner = identity.banner() if spec.burn_in is not BurnIn.NONE else ()
    inside = banner[:3] if spec.burn_in is BurnIn.INSIDE else ()
    recording = record(
        spec.plane,
        spec.scanner,
        np.random.default_rng((spec.study, spec.number)),
        brain_plane=spec.brain_plane,
        burned=Burned(header=banner, inside=inside, calipers=spec.calipers),
        colour=spec.layout.colour,
    )
    return recording, banner


def _add_pixels(dataset: Dataset, spec: InstanceSpec, recording: Recording) -> None:
    cycle = [
        encode_frame(spec.layout.stored(frame), spec.layout, spec.transfer_syntax)
        for frame in recording.frames(min(spec.frames, CYCLE))
    ]
    frames = [cycle[number % CYCLE] for number in range(spec.frames)]
    compressed = (
        uid.UID(spec.transfer_syntax).is_compressed and spec.transfer_syntax != uid.DeflatedExplicitVRLittleEndian
    )
    modules.add_lossy_record(dataset, spec, len(cycle[0]))
    if compressed:
        dataset.PixelData = encapsulate(frames, has_bot=True)
        dataset["PixelData"].is_undefined_length = True
    else:
        data = b"".join(frames)
        dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if spec.layout.bits_allocated > 8 and not compressed else "OB"


def _part10(dataset: Dataset, spec: InstanceSpec) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = spec.sop_class_uid
    meta.MediaStorageSOPInstanceUID = spec.sop_instance_uid
    meta.TransferSyntaxUID = spec.transfer_syntax
    meta.ImplementationClassUID = make_uid("implementation", "simulation")
    meta.ImplementationVersionName = "FETALMLOPS_SIM"
    meta.SourceApplicationEntityTitle = "CANARYAE"
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
