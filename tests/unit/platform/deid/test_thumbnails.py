"""The real reader of text on thumbnails: nothing unproven can be read, not even when the mosaic is smoothed."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.topics import Zone
from fetalmlops.domain.deid.pixels.frames import read_frames
from fetalmlops.domain.deid.pixels.thumbnail import mask_frame
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.simulation import SCANNERS, BurnIn, InstanceSpec, Kind, make_instance
from fetalmlops.platform.deid.text import RapidText
from fetalmlops.platform.deid.thumbnails import make_thumbnail
from fetalmlops.platform.dicom.decoding import configure
from fetalmlops.platform.objects import open_objects
from fetalmlops.platform.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fetalmlops.domain.simulation import Scanner

LINES = ("CANARY JANE 31.01.1990", "ID 4711-0815")
WRITTEN = ["CANARYJANE31011990", "ID47110815"]


@pytest.fixture(scope="module")
def reader() -> RapidText:
    configure()
    return RapidText()


def screen(rows: int, columns: int, height: int) -> NDArray[np.uint8]:
    """Return a screen full of text of a height, on dim speckle."""
    grey = np.random.default_rng(1).integers(0, 40, (rows, columns), dtype=np.uint8)
    thickness = max(1, height // 8)
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, height, thickness)
    for number, y in enumerate(range(height + 10, rows - 10, round(1.8 * height) + 10)):
        cv2.putText(grey, LINES[number % 2], (10, y), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness)
    return grey


def read(reader: RapidText, picture: NDArray[np.uint8]) -> list[str]:
    """Return the letters and digits of each text that is read."""
    return ["".join(filter(str.isalnum, found.text.upper())) for found in reader.find(picture)]


def leaks(reader: RapidText, picture: NDArray[np.uint8], written: list[str]) -> list[str]:
    """Return what is read that was written, three characters on end or more: blocks read as something else now and then."""
    parts = {text[i : i + 3] for text in written for i in range(len(text) - 2)}
    return [text for text in read(reader, picture) if any(text[i : i + 3] in parts for i in range(len(text) - 2))]


def smoothed(mosaic: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Return a mosaic as one who wants to read it would look at it."""
    return np.asarray(cv2.resize(mosaic[::block, ::block], None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns", "block"), [(600, 800, 16), (1080, 1440, 29), (150, 200, 16)])
@pytest.mark.parametrize("share", [0.6, 1.0, 1.5, 2.0])
def test_text_up_to_two_blocks_high_cannot_be_read(
    reader: RapidText, rows: int, columns: int, block: int, share: float
) -> None:
    grey = screen(rows, columns, round(share * block))
    assert leaks(reader, grey, WRITTEN)
    mosaic = mask_frame(grey)
    assert np.array_equal(mosaic[::block, ::block].repeat(block, 0).repeat(block, 1)[:rows, :columns], mosaic)
    assert leaks(reader, mosaic, WRITTEN) == []
    assert leaks(reader, smoothed(mosaic, block), WRITTEN) == []


@pytest.mark.slow
@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.model)
def test_nothing_burned_into_a_simulated_screen_can_be_read(reader: RapidText, scanner: Scanner) -> None:
    data = make_instance(InstanceSpec(scanner=scanner, regions=False, burn_in=BurnIn.OUTSIDE)).data
    (frame,) = read_frames(io.BytesIO(data))
    written = read(reader, frame.grey)
    assert any("CANARY" in text for text in written)
    assert leaks(reader, mask_frame(frame.grey), written) == []


def test_a_box_that_cuts_the_text_short_still_covers_it(reader: RapidText) -> None:
    grey = np.zeros((200, 400), np.uint8)
    cv2.putText(grey, "CANARY JANE", (60, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 220, 1, cv2.LINE_AA)
    rows, columns = np.nonzero(grey)
    inside = (int(columns.min()) + 6, int(rows.min()) + 3, int(columns.max()) - 5, int(rows.max()) - 2)
    shown = mask_frame(grey, kept=[(0, 0, 400, 200)], found=[inside])
    assert read(reader, grey)
    assert not shown.any()


def test_the_thumbnail_of_a_stored_clip_is_drawn_in_a_child(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    objects = open_objects(settings, Zone.PHI)
    spec = InstanceSpec(kind=Kind.ULTRASOUND_MULTIFRAME, frames=5)
    ref = objects.put("phi/instances/2026-01-01T00/clip", make_instance(spec).data, "application/dicom")
    made = asyncio.run(make_thumbnail(settings, objects, ref))
    picture = cv2.imdecode(np.frombuffer(made.png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert (made.rows, made.columns) == (600, 800)
    assert picture.shape == (3 * (600 + 40), 800 + 40, 3)
    assert [item.uri for item in objects.walk("phi")] == [ref.uri]

    broken = objects.put("phi/instances/2026-01-01T00/broken", b"CANARY" * 100, "application/dicom")
    with pytest.raises(PermanentError) as error:
        asyncio.run(make_thumbnail(settings, objects, broken))
    assert "CANARY" not in str(error.value)
