"""Thumbnails: kept areas to the bit, nothing of the rest but means of blocks, and coordinates at the edges."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fetalmlops.domain.deid.pixels.frames import Frame, read_frames
from fetalmlops.domain.deid.pixels.thumbnail import draw_thumbnail, mask_frame
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

KEPT = (32, 16, 64, 48)


def grey(files: ModuleType, rows: int = 64, columns: int = 96) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return files.speckle(rows, columns)  # type: ignore[no-any-return]


def test_what_is_kept_is_as_it_is_and_the_rest_is_sixteen_levels_of_blocks(files: ModuleType) -> None:
    picture = grey(files)
    masked = mask_frame(picture, [KEPT])
    assert np.array_equal(masked[16:48, 32:64], picture[16:48, 32:64])
    rest = masked.copy()
    rest[16:48, 32:64] = mask_frame(picture)[16:48, 32:64]
    for y in range(0, 64, 16):
        for x in range(0, 96, 16):
            block = rest[y : y + 16, x : x + 16]
            assert len(np.unique(block)) == 1
            assert block[0, 0] % 16 == 0
            assert abs(int(block[0, 0]) + 8 - picture[y : y + 16, x : x + 16].mean()) <= 8


def test_the_mosaic_tells_nothing_of_where_in_a_block_the_ink_is(files: ModuleType) -> None:
    picture = grey(files)
    turned = picture.copy()
    turned[:16, :16] = picture[:16, :16][::-1, ::-1]
    assert np.array_equal(mask_frame(picture), mask_frame(turned))


def test_a_size_that_is_no_multiple_of_blocks_is_covered_to_its_edge(files: ModuleType) -> None:
    for rows, columns in ((1, 1), (17, 33), (63, 95), (601, 803)):
        picture = grey(files, rows, columns)
        masked = mask_frame(picture)
        assert masked.shape == picture.shape
        assert len(np.unique(masked[-1])) <= 51


def test_found_text_is_filled_within_what_is_kept(files: ModuleType) -> None:
    masked = mask_frame(grey(files), [(0, 0, 96, 64)], [(40, 20, 60, 28)])
    assert not masked[16:32, 36:64].any()
    assert masked[:16].all()


def test_a_preview_is_black_where_nothing_is_kept(files: ModuleType) -> None:
    masked = mask_frame(grey(files), [KEPT], blank=True)
    assert np.count_nonzero(masked) == 32 * 32


def test_frames_stand_below_one_another_with_the_outlines_of_what_is_kept_and_found(files: ModuleType) -> None:
    picture = grey(files)
    sheet = draw_thumbnail([Frame(1, picture), Frame(9, picture)], [KEPT], [(40, 20, 60, 28)])
    assert sheet.shape == (2 * (64 + 40), 96 + 40, 3)
    first = sheet[40:104, 40:]
    assert first[16, 32].tolist() == [0, 160, 0]
    assert first[20, 40].tolist() == [255, 0, 255]
    assert np.array_equal(sheet[40:104], sheet[144:208])
    assert not np.array_equal(sheet[:40], sheet[104:144])  # the number of the frame


def test_a_large_screen_is_made_smaller_and_keeps_its_coordinates() -> None:
    large = np.zeros((1200, 1600), np.uint8)
    sheet = draw_thumbnail([Frame(1, large)], [(800, 600, 1000, 800)])
    assert sheet.shape == (640, 840, 3)
    assert sheet[40 + 300, 40 + 400].tolist() == [0, 160, 0]


@pytest.mark.parametrize(("frames", "numbers"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 4, 8])])
def test_first_middle_and_last_frame_are_read(files: ModuleType, frames: int, numbers: list[int]) -> None:
    sample = files.make_sample(frames=frames)
    read = read_frames(io.BytesIO(sample.part10()))
    stored = np.frombuffer(sample.pixels, np.uint8).reshape(frames, 60, 80)
    assert [frame.number for frame in read] == numbers
    assert all(np.array_equal(frame.grey, stored[frame.number - 1]) for frame in read)


def test_what_is_no_image_is_refused_without_a_word_of_it(files: ModuleType) -> None:
    without = files.make_sample()
    without.pixels = b""
    for data in (b"CANARY", without.part10(), files.make_sample().part10()[:-100]):
        with pytest.raises(PermanentError) as error:
            read_frames(io.BytesIO(data))
        assert "CANARY" not in str(error.value)
