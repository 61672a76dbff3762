from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import cv2
import gdcm
import numpy as np
import pytest
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_color_lut

from fetalmlops.domain.contracts.planes import BrainPlane, Plane
from fetalmlops.domain.errors import ContractError
from fetalmlops.domain.imaging.decoding import iter_frames
from fetalmlops.domain.imaging.image import open_image
from fetalmlops.domain.simulation import (
    SCANNERS,
    BurnIn,
    InstanceSpec,
    Kind,
    Layout,
    Photometric,
    SimulatedInstance,
    StudySpec,
    make_instance,
    make_study,
    plan_study,
    stored_frames,
)
from fetalmlops.domain.simulation.encoding import NEAR_ERROR
from fetalmlops.domain.simulation.pixels import PALETTE, to_ybr

if TYPE_CHECKING:
    from pathlib import Path

SMALL = SCANNERS[2]
P = Photometric

LOSSLESS = [
    *(
        (syntax, Layout(photometric=photometric, planar=planar))
        for syntax in (
            uid.ImplicitVRLittleEndian,
            uid.ExplicitVRLittleEndian,
            uid.ExplicitVRBigEndian,
            uid.DeflatedExplicitVRLittleEndian,
        )
        for photometric, planar in ((P.MONOCHROME2, 0), (P.MONOCHROME1, 0), (P.RGB, 0), (P.RGB, 1), (P.YBR_FULL, 0))
    ),
    *((syntax, Layout(bits=12)) for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)),
    *(
        (syntax, Layout(photometric=photometric))
        for syntax in (uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless)
        for photometric in (P.MONOCHROME1, P.MONOCHROME2, P.RGB, P.YBR_FULL)
    ),
    *((syntax, Layout(bits=12)) for syntax in (uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless)),
    *((uid.JPEG2000Lossless, Layout(photometric=photometric)) for photometric in (P.MONOCHROME2, P.RGB, P.YBR_RCT)),
]
LOSSY = [
    (uid.JPEGBaseline8Bit, Layout()),
    (uid.JPEGBaseline8Bit, Layout(photometric=P.YBR_FULL)),
    (uid.JPEGBaseline8Bit, Layout(photometric=P.YBR_FULL_422)),
    (uid.JPEGExtended12Bit, Layout()),
    (uid.JPEGExtended12Bit, Layout(bits=12)),
    (uid.JPEGLSNearLossless, Layout()),
    (uid.JPEGLSNearLossless, Layout(photometric=P.RGB)),
    (uid.JPEG2000, Layout()),
    (uid.JPEG2000, Layout(photometric=P.YBR_ICT)),
    (uid.ExplicitVRLittleEndian, Layout(photometric=P.YBR_FULL_422)),
]


def read(instance: SimulatedInstance) -> Dataset:
    return dcmread(BytesIO(instance.data))


def spec_of(syntax: str, layout: Layout) -> InstanceSpec:
    kind = Kind.SECONDARY_CAPTURE if layout.bits > 8 else Kind.ULTRASOUND
    return InstanceSpec(kind=kind, scanner=SMALL, transfer_syntax=syntax, layout=layout)


def decoded(dataset: Dataset, *, raw: bool) -> np.ndarray:
    return get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=raw)[0]


def decoded_by_gdcm(data: bytes, path: Path) -> np.ndarray:
    """Decode what pydicom leaves out: JPEG with 12 bits."""
    path.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    samples = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(samples, np.uint16).reshape(image.GetDimension(1), image.GetDimension(0))


@pytest.mark.parametrize(("syntax", "layout"), LOSSLESS, ids=str)
def test_lossless_syntaxes_give_back_the_rendered_pixels(syntax: uid.UID, layout: Layout) -> None:
    spec = spec_of(syntax, layout)
    dataset = read(make_instance(spec))
    (expected,) = stored_frames(spec)
    if layout.photometric is P.YBR_FULL:
        expected = to_ybr(expected)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.PhotometricInterpretation == layout.photometric
    assert dataset.LossyImageCompression == "00"
    assert np.array_equal(decoded(dataset, raw=True), expected)


@pytest.mark.parametrize(("syntax", "layout"), LOSSY, ids=str)
def test_lossy_syntaxes_come_near(syntax: uid.UID, layout: Layout, tmp_path: Path) -> None:
    spec = spec_of(syntax, layout)
    instance = make_instance(spec)
    dataset = read(instance)
    (expected,) = stored_frames(spec)
    deep = layout.bits > 8
    got = decoded_by_gdcm(instance.data, tmp_path / "x.dcm") if deep else decoded(dataset, raw=not layout.colour)
    error = np.abs(got.astype(int) - expected)
    assert np.median(error) <= 3 * (1 << (layout.bits - 8))
    if syntax == uid.JPEGLSNearLossless:
        assert error.max() <= NEAR_ERROR
    if syntax.is_compressed:
        assert dataset.LossyImageCompression == "01"
        assert dataset.LossyImageCompressionRatio > 1
        assert dataset.LossyImageCompressionMethod.startswith("ISO_")


@pytest.mark.parametrize("bits", [8, 12])
def test_jpeg_extended_frames_state_the_precision_of_their_process(bits: int) -> None:
    """ISO/IEC 10918-1 B.2.2: 8 or 12 bits; a decoder refuses others."""
    spec = spec_of(uid.JPEGExtended12Bit, Layout(bits=bits))
    instance = make_instance(spec)
    (encoded,) = generate_frames(read(instance).PixelData, number_of_frames=1)
    header = max(encoded.find(marker) for marker in (b"\xff\xc0", b"\xff\xc1"))
    assert encoded[header + 4] == bits
    (frame,) = iter_frames(open_image(BytesIO(instance.data)).source)
    (expected,) = stored_frames(spec)
    assert frame.bits == bits
    assert np.median(np.abs(frame.pixels.astype(int) - expected)) <= 3 * (1 << (bits - 8))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless], ids=str)
def test_a_palette_gives_the_tinted_screen(syntax: uid.UID) -> None:
    spec = spec_of(syntax, Layout(photometric=P.PALETTE))
    dataset = read(make_instance(spec))
    (indices,) = stored_frames(spec)
    coloured = apply_color_lut(decoded(dataset, raw=True), dataset)
    assert np.array_equal(coloured >> 8, PALETTE[indices])


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_plants_identifiers_that_are_really_there(kind: Kind) -> None:
    layout = Layout(photometric=P.RGB) if kind is Kind.SECONDARY_CAPTURE_COLOUR else Layout()
    instance = make_instance(InstanceSpec(kind=kind, scanner=SMALL, layout=layout, study=7))
    dataset = read(instance)
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == instance.spec.sop_class_uid
    assert ("PixelData" in dataset) is instance.spec.is_image
    assert (instance.region is not None) is instance.spec.is_image
    assert len(instance.planted) == len(set(instance.planted)) > 30
    for text in instance.planted:
        assert text.encode() in instance.data
    known = {dataset.PatientID, dataset.AccessionNumber, dataset.PatientBirthDate, str(dataset.StudyInstanceUID)}
    assert known <= set(instance.planted)
    token = dataset.PatientID.removeprefix("CANARYID")
    assert {f"CANARY^P{token}", f"CANARY^PRIVATENESTED{token}", f"CANARY^FORMERNAME{token}"} <= set(instance.planted)


def test_nothing_planted_by_one_study_is_planted_by_another() -> None:
    one, other = (make_instance(InstanceSpec(scanner=SMALL, study=study)).planted for study in (1, 2))
    scanner = {SMALL.serial, SMALL.station, f"CANARY PROBE {SMALL.serial}"}
    assert set(one) & set(other) == scanner


def test_all_planted_dates_are_impossible() -> None:
    for study in range(50):
        dataset = read(make_instance(InstanceSpec(kind=Kind.BASIC_TEXT, study=study)))
        for name in ("PatientBirthDate", "StudyDate", "LastMenstrualDate"):
            assert "19010101" <= dataset[name].value <= "19091231"


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_the_header_s_region_is_the_drawn_sector(scanner) -> None:
    instance = make_instance(InstanceSpec(scanner=scanner, plane=Plane.THORAX, burn_in=BurnIn.NONE))
    dataset = read(instance)
    (item,) = dataset.SequenceOfUltrasoundRegions
    region = instance.region
    assert region is not None
    assert (item.RegionLocationMinX0, item.RegionLocationMinY0) == (region.x0, region.y0)
    assert (item.RegionLocationMaxX1, item.RegionLocationMaxY1) == (region.x1, region.y1)
    assert item.RegionLocationMaxX1 < dataset.Columns
    assert item.RegionLocationMaxY1 < dataset.Rows
    assert item.PhysicalUnitsXDirection == item.PhysicalUnitsYDirection == 3
    assert 0.005 < item.PhysicalDeltaX == item.PhysicalDeltaY < 0.1


def test_burned_identity_stands_where_it_is_asked_for() -> None:
    frames = {}
    for place in BurnIn:
        spec = InstanceSpec(scanner=SMALL, burn_in=place)
        instance = make_instance(spec)
        dataset = read(instance)
        frames[place] = dataset.pixel_array
        assert dataset.BurnedInAnnotation == ("NO" if place is BurnIn.NONE else "YES")
        assert bool(instance.burned_in) is (place is not BurnIn.NONE)
    slices = instance.region.slices
    outside = frames[BurnIn.OUTSIDE] != frames[BurnIn.NONE]
    inside = frames[BurnIn.INSIDE] != frames[BurnIn.OUTSIDE]
    assert outside.any()
    assert not outside[slices].any()
    assert inside[slices].any()


def test_regions_can_be_left_out() -> None:
    assert "SequenceOfUltrasoundRegions" not in read(make_instance(InstanceSpec(scanner=SMALL, regions=False)))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit, uid.JPEG2000Lossless], ids=str)
def test_a_cine_carries_its_frames_and_their_time(syntax: uid.UID) -> None:
    spec = InstanceSpec(kind=Kind.ULTRASOUND_MULTIFRAME, scanner=SMALL, transfer_syntax=syntax, frames=3, frame_ms=40)
    dataset = read(make_instance(spec))
    expected = list(stored_frames(spec))
    got = get_decoder(syntax).as_array(dataset, raw=True)[0]
    assert dataset.NumberOfFrames == 3
    assert dataset.FrameIncrementPointer == 0x00181063
    assert dataset.FrameTime == 40
    assert got.shape == (3, SMALL.rows, SMALL.columns)
    assert np.median(np.abs(got.astype(int) - np.stack(expected))) <= 1
    assert not np.array_equal(expected[0], expected[1])


def test_equal_specs_give_equal_bytes_and_other_numbers_other_images() -> None:
    first, again = (make_instance(InstanceSpec(scanner=SMALL)) for _ in range(2))
    other = make_instance(InstanceSpec(scanner=SMALL, number=2))
    assert first == again
    assert first.spec.sop_instance_uid != other.spec.sop_instance_uid
    assert not np.array_equal(read(first).pixel_array, read(other).pixel_array)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 2}, "1 frame, or more of a multi-frame kind"),
        ({"frames": 0}, "1 frame"),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.102"}, "transfer syntax among"),
        ({"transfer_syntax": uid.JPEGBaseline8Bit, "layout": Layout(photometric=P.RGB)}, "with 1.2.840.10008.1.2.4.50"),
        ({"transfer_syntax": uid.RLELossless, "layout": Layout(photometric=P.RGB, planar=1)}, "planar configuration 0"),
        ({"layout": Layout(photometric=P.RGB, bits=12)}, "12 bits for grey"),
        ({"layout": Layout(bits=10)}, "got 10"),
    ],
)
def test_impossible_specs_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        InstanceSpec(**arguments)


def test_a_study_shows_every_view_of_one_patient() -> None:
    spec = StudySpec(seed=4, instances=9, scanner=SMALL, cine_frames=2, report=True)
    study = list(make_study(spec))
    assert [instance.spec for instance in study] == list(plan_study(spec))
    datasets = [read(instance) for instance in study]
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
    assert len({dataset.PatientID for dataset in datasets}) == 1
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 2
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 10
    views = {(instance.spec.plane, instance.spec.brain_plane) for instance in study[:-1]}
    assert len(views) == 9
    assert {brain for _, brain in views} == {None, *BrainPlane} - {BrainPlane.UNKNOWN}
    assert [dataset.get("NumberOfFrames") for dataset in datasets] == [
        2,
        None,
        None,
        None,
        2,
        None,
        None,
        None,
        2,
        None,
    ]
    assert study[-1].spec.kind is Kind.COMPREHENSIVE


def test_the_text_band_is_legible_enough_to_be_told_from_noise() -> None:
    instance = make_instance(InstanceSpec(scanner=SCANNERS[0]))
    pixels = read(instance).pixel_array
    x0, y0, x1, y1 = SCANNERS[0].header
    count, _ = cv2.connectedComponents((pixels[y0:y1, x0:x1] > 120).astype(np.uint8))
    assert count > 30
