from __future__ import annotations

import io
import struct

import pytest

from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.bitstreams import fragments
from fetalmlops.domain.imaging.bitstreams.fragments import locate_frames

END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
SOI, REST = b"\xff\xd8ab", b"cdef"


def item(data: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


def pixel_data(*parts: bytes, table: bytes = b"") -> bytes:
    return item(table) + b"".join(item(part) for part in parts) + END


def located(data: bytes, frames: int) -> list[bytes]:
    found = locate_frames(io.BytesIO(b"head" + data), 4, 4 + len(data), frames)
    return [b"".join((b"head" + data)[start : start + length] for start, length in parts) for parts in found]


def reason(data: bytes, frames: int) -> str:
    with pytest.raises(PermanentError) as caught:
        located(data, frames)
    return caught.value.reason


def test_one_fragment_a_frame_needs_no_table() -> None:
    assert located(pixel_data(b"aa", b"bb", b"cc"), 3) == [b"aa", b"bb", b"cc"]


def test_all_fragments_belong_to_an_only_frame() -> None:
    assert located(pixel_data(b"aa", b"bb", b"cc"), 1) == [b"aabbcc"]


def test_a_table_groups_fragments() -> None:
    table = struct.pack("<2I", 0, 2 * 10)
    assert located(pixel_data(b"aa", b"bb", b"cc", table=table), 2) == [b"aabb", b"cc"]


@pytest.mark.parametrize("offsets", [(0, 7), (10, 20), (0, 4_000_000_000), (20, 0), (0, 0)])
def test_a_table_that_disagrees_is_not_believed(offsets: tuple[int, int]) -> None:
    parts = (SOI, REST, SOI)
    assert located(pixel_data(*parts, table=struct.pack("<2I", *offsets)), 2) == [SOI + REST, SOI]


def test_start_markers_group_fragments_where_there_is_no_table() -> None:
    assert located(pixel_data(SOI, REST, REST, SOI, REST), 2) == [SOI + REST + REST, SOI + REST]
    assert located(pixel_data(b"\xff\x4f", REST, b"\xff\x4f"), 2) == [b"\xff\x4f" + REST, b"\xff\x4f"]


def test_fragments_that_match_no_frames_are_refused() -> None:
    assert reason(pixel_data(SOI, REST, SOI), 4) == "frames-inconsistent"
    assert reason(pixel_data(REST, SOI, SOI), 2) == "frames-inconsistent"
    assert reason(pixel_data(), 1) == "frames-inconsistent"


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 12, 20, 27])
def test_a_sequence_that_breaks_off_is_refused(cut: int) -> None:
    assert reason(pixel_data(SOI, REST)[:-cut], 2) == "undecodable"


def test_a_fragment_beyond_the_file_or_of_undefined_length_is_refused() -> None:
    for length in (10_000, 0xFFFFFFFF):
        assert reason(item(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, length) + END, 1) == "undecodable"


def test_pixel_data_without_its_table_item_is_refused() -> None:
    assert reason(END, 1) == "undecodable"


def test_fragments_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MAX_FRAGMENTS", 100)
    assert reason(pixel_data(*[b""] * 101), 101) == "too-large"
