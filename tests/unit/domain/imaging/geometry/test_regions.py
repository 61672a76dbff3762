from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from fetalmlops.domain.contracts.planes import FrameMode
from fetalmlops.domain.imaging.geometry import Box, Geometry, find_content, read_geometry

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS, COLUMNS = 120, 160
SECTOR = Box(10, 20, 110, 140)


def geometry(*regions: Dataset, **attributes: Any) -> Geometry:
    dataset = Dataset()
    if regions:
        dataset.SequenceOfUltrasoundRegions = list(regions)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return read_geometry(dataset, ROWS, COLUMNS)


def test_bounds_are_inclusive_and_deltas_are_in_centimetres_of_either_sign(make_region: Callable[..., Dataset]) -> None:
    found = geometry(make_region())
    assert found.sector == SECTOR
    assert found.spacing == pytest.approx((0.2, 0.1))


def test_the_largest_tissue_region_counts_and_the_first_of_equal_ones(make_region: Callable[..., Dataset]) -> None:
    small = make_region(RegionLocationMaxX1=60)
    doppler = make_region(RegionSpatialFormat=3, RegionLocationMaxX1=159, RegionLocationMaxY1=119)
    flow = make_region(RegionDataType=2, RegionLocationMaxX1=159)
    twin = make_region(RegionLocationMinX0=21, RegionLocationMaxX1=140)
    assert geometry(small, doppler, flow, make_region(), twin).sector == SECTOR


@pytest.mark.parametrize(
    "changes",
    [
        {"RegionLocationMaxX1": 161},
        {"RegionLocationMaxY1": 400},
        {"RegionLocationMinX0": 139},
        {"RegionLocationMinY0": 96},
        {"RegionSpatialFormat": None},
        {"RegionLocationMaxX1": None},
        {"RegionDataType": 18},
    ],
)
def test_a_region_that_does_not_fit_the_image_counts_as_absent(
    changes: dict[str, Any], make_region: Callable[..., Dataset]
) -> None:
    assert geometry(make_region(**changes)) == Geometry(None, None)


def test_a_bound_that_states_the_first_pixel_outside_is_forgiven(make_region: Callable[..., Dataset]) -> None:
    found = geometry(make_region(RegionLocationMaxX1=COLUMNS, RegionLocationMaxY1=ROWS))
    assert found.sector == Box(10, 20, ROWS, COLUMNS)


@pytest.mark.parametrize(
    "changes",
    [
        {"PhysicalUnitsXDirection": 4},
        {"PhysicalUnitsYDirection": None},
        {"PhysicalDeltaX": 0.0},
        {"PhysicalDeltaY": float("nan")},
        {"PhysicalDeltaY": float("inf")},
    ],
)
def test_without_a_length_the_pixel_spacing_serves(
    changes: dict[str, Any], make_region: Callable[..., Dataset]
) -> None:
    found = geometry(make_region(**changes), PixelSpacing=[0.5, 0.25])
    assert (found.sector, found.spacing) == (SECTOR, (0.5, 0.25))
    assert geometry(make_region(**changes)).spacing is None


@pytest.mark.parametrize("value", [[0.5], [0.5, 0.0], [0.1, 0.2, 0.3], None])
def test_a_pixel_spacing_that_is_none_counts_as_absent(value: Any) -> None:
    assert geometry(PixelSpacing=value) == Geometry(None, None)


@pytest.mark.parametrize(("rows", "columns"), [(120, 160), (600, 800), (768, 1024)])
def test_content_is_found_to_the_pixel(rows: int, columns: int) -> None:
    frame = np.zeros((rows, columns), np.uint8)
    box = Box(rows // 5, columns // 7, rows - 9, columns - 13)
    box.crop(frame)[:] = 60
    assert find_content([frame], 8) == box


def test_content_leaves_out_writing_and_rulers_but_not_a_second_part(
    make_speckle: Callable[..., NDArray[np.uint8]],
) -> None:
    frame = np.zeros((480, 640), np.uint8)
    frame[100:400, 100:500] = np.maximum(make_speckle(300, 400), 30)
    frame[200:240] = 0  # fluid from edge to edge
    frame[20:36:4, 20:140] = 255  # writing
    frame[100:400:10, 560:566] = 255  # a ruler
    frame[390, 500:566] = 255  # and what ties it to the tissue
    found = find_content([frame], 8)
    assert abs(found.top - 100) <= 2
    assert abs(found.bottom - 400) <= 2
    assert found.left <= 102
    assert 496 <= found.right <= 512


def test_content_is_what_any_of_the_frames_shows() -> None:
    first, second = np.zeros((2, 120, 160), np.uint8)
    first[20:80, 20:80], second[40:100, 60:140] = 90, 90
    assert find_content([first, second], 8) == Box(20, 20, 100, 140)


def test_a_black_frame_is_taken_whole() -> None:
    assert find_content([np.full((120, 160), 8, np.uint8)], 8) == Box(0, 0, 120, 160)


def test_a_trace_over_time_is_told_from_the_regions(make_region: Callable[..., Dataset]) -> None:
    found = []
    for code in (1, 2, 3, 4):
        dataset = Dataset()
        dataset.SequenceOfUltrasoundRegions = [make_region(), make_region(RegionSpatialFormat=code)]
        found.append(read_geometry(dataset, 200, 200).mode)
    assert found == [None, FrameMode.M_MODE, FrameMode.SPECTRAL, None]


def test_layers_that_fluid_parts_are_one_image_where_that_is_asked_for() -> None:
    frame = np.zeros((200, 300), np.uint8)
    frame[20:38, 50:250] = 90
    frame[80:190, 50:250] = 90
    frame[20:50, 270:295] = 90
    assert find_content([frame], 8) == Box(80, 50, 190, 250)
    assert find_content([frame], 8, layer_part=0.04) == Box(20, 50, 190, 250)


def test_a_part_of_the_image_that_the_screen_cuts_off_belongs_to_it() -> None:
    frame = np.zeros((200, 300), np.uint8)
    frame[20:180, 100:250] = 90
    frame[100:200, 0:35] = 90
    assert find_content([frame], 8).left == 100
    assert find_content([frame], 8, layer_part=0.04) == Box(20, 0, 200, 250)
