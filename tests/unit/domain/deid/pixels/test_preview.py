"""A preview shows what is kept, and has no trace of anything else."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fetalmlops.domain.deid.pixels.frames import read_first_frame
from fetalmlops.domain.deid.pixels.preview import WIDEST, masked_preview, masked_text
from fetalmlops.domain.deid.pixels.text import FoundText
from fetalmlops.domain.errors import PermanentError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

KEPT = (200, 150, 600, 450)


def screen(outside: str = "DOE^JANE 19900131", inside: str = "") -> NDArray[np.uint8]:
    """Return a picture with writing around it and, if asked for, within."""
    picture = np.full((600, 800), 40, np.uint8)
    picture[150:450, 200:600] = np.random.default_rng(1).integers(0, 255, (300, 400), np.uint8)
    for row in (60, 130, 510, 570):
        cv2.putText(picture, outside, (10, row), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 2)
    if inside:
        cv2.putText(picture, inside, (260, 300), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 3)
    return picture


def shown(jpeg: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))


def test_what_stands_outside_changes_no_byte() -> None:
    names = {masked_preview(screen(name), [KEPT]) for name in ("", "DOE^JANE", "ROE^RICHARD 1999")}
    assert len(names) == 1


def test_what_stands_inside_is_shown() -> None:
    picture = screen()
    small = shown(masked_preview(picture, [KEPT]))
    assert small.shape == (240, WIDEST, 3)
    part = small[64:176, 84:236].mean(axis=2)
    wanted = cv2.resize(picture, (WIDEST, 240), interpolation=cv2.INTER_AREA)[64:176, 84:236]
    assert np.abs(part - wanted).mean() < 12


def test_filled_text_changes_no_byte_either() -> None:
    box = (250, 240, 590, 320)
    pictures = [screen(inside=text) for text in ("DOE", "ROE 42")]
    assert masked_preview(pictures[0], [KEPT]) != masked_preview(pictures[1], [KEPT])
    assert masked_preview(pictures[0], [KEPT], [box]) == masked_preview(pictures[1], [KEPT], [box])


def test_a_small_image_is_not_enlarged() -> None:
    assert shown(masked_preview(np.zeros((60, 80), np.uint8), [(8, 10, 72, 50)])).shape == (60, 80, 3)


class Finds:
    """Finds what it is told, and remembers what it was shown."""

    def __init__(self, *found: FoundText) -> None:
        self.found = found
        self.frame = np.zeros((0, 0), np.uint8)

    def find(self, frame: NDArray[np.uint8]) -> list[FoundText]:
        self.frame = frame
        return list(self.found)


def test_text_is_looked_for_within_and_placed_in_the_image() -> None:
    detector = Finds(FoundText((10, 20, 30, 40), "DOE", 0.9), FoundText((0, 0, 399, 299), "6", 0.3))
    two = [(200, 150, 400, 450), (500, 150, 600, 450)]
    assert masked_text(screen(), two, detector) == ((207, 167, 233, 193),)
    assert detector.frame.shape == (300, 400)
    assert not detector.frame[:, 200:300].any()


def test_only_one_character_as_large_as_the_picture_is_texture() -> None:
    detector = Finds(FoundText((0, 0, 399, 299), "DOE JANE", 0.3), FoundText((0, 0, 60, 60), "6", 0.3))
    assert len(masked_text(screen(), [KEPT], detector)) == 2


def test_a_file_without_pixels_is_refused(files: ModuleType) -> None:
    sample = files.make_sample()
    assert read_first_frame(io.BytesIO(sample.part10()), {}).grey.shape == (files.ROWS, files.COLUMNS)
    sample.pixels = b""
    with pytest.raises(PermanentError, match="without"):
        read_first_frame(io.BytesIO(sample.part10()), {})
