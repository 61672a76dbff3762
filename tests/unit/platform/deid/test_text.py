"""The real reader of text on simulated screens: what identifies is found, and a clean picture passes."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.contracts.planes import Plane
from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.pixels.search import TextSearch
from fetalmlops.domain.deid.pixels.text import TextCheck
from fetalmlops.domain.deid.pixels.trust import TextVerdict
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.decoding import DecodedFrame
from fetalmlops.domain.imaging.layout import Photometric
from fetalmlops.domain.simulation import SCANNERS, BurnIn, InstanceSpec, Kind, make_instance
from fetalmlops.platform.deid.text import RapidText

if TYPE_CHECKING:
    from fetalmlops.domain.simulation import Scanner

CHECKED = TextVerdict.UNTRUSTED_CHECKED


@pytest.fixture(scope="module")
def reader() -> RapidText:
    return RapidText()


@pytest.fixture(scope="module")
def deidentifier(reader: RapidText) -> Deidentifier:
    return Deidentifier(PseudonymKey("tests", bytes(32)), text=TextCheck(reader))


def test_it_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert RapidText().find(np.zeros((64, 64), np.uint8)) == []


def test_it_says_where_and_what(reader: RapidText) -> None:
    frame = np.zeros((200, 300), np.uint8)
    cv2.putText(frame, "CANARY JANE", (60, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 220, 1, cv2.LINE_AA)
    (found,) = reader.find(frame)
    assert found.text.replace(" ", "") == "CANARYJANE"
    x0, y0, x1, y1 = found.box
    rows, columns = np.nonzero(frame)
    assert abs(x0 - columns.min()) < 12
    assert abs(x1 - columns.max()) < 12
    assert y0 <= rows.min()
    assert y1 > rows.max()
    (colour,) = reader.find(np.stack([frame, frame // 2, frame // 4], axis=-1))
    assert colour.text == found.text


COLOURS = [
    ((255, 0, 0), (76, 76, 76)),
    ((0, 0, 255), (29, 29, 29)),
    ((0, 200, 0), (117, 117, 117)),
    ((110, 60, 60), (75, 75, 75)),
    ((255, 0, 0), (158, 0, 255)),
]
"""Of text and of what is around it: their luminance is the same."""


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "PALETTE COLOR"])
@pytest.mark.parametrize(("ink", "paper"), COLOURS)
def test_text_is_found_by_its_colour_alone(
    reader: RapidText, photometric: str, ink: tuple[int, int, int], paper: tuple[int, int, int]
) -> None:
    mask = np.zeros((160, 300), np.uint8)
    cv2.putText(mask, "CANARY JANE", (40, 90), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 1, cv2.LINE_AA)
    ramp = np.linspace(paper, ink, 256).round().astype(np.uint8)
    frame = ramp[mask]
    assert np.ptp(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) <= 2
    if photometric == "PALETTE COLOR":
        frame = mask
    elif photometric == "YBR_FULL":
        frame = np.ascontiguousarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., (0, 2, 1)])
    search = TextSearch(TextCheck(reader), ((0, 0, 300, 160),), ramp)
    search.watch(DecodedFrame(1, frame, Photometric(photometric), 8))
    with pytest.raises(PermanentError) as error:
        search.finish()
    assert error.value.reason == "text-found"


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_identifiers_in_the_picture_are_found(deidentifier: Deidentifier, scanner: Scanner) -> None:
    part10 = make_instance(InstanceSpec(scanner=scanner, burn_in=BurnIn.INSIDE, calipers=True)).data
    with pytest.raises(PermanentError) as error:
        deidentifier.deidentify_bytes(part10, verdict=CHECKED)
    assert error.value.reason == "text-found"


@pytest.mark.parametrize("scanner", SCANNERS[:2], ids=lambda scanner: scanner.name)
def test_a_picture_without_identifiers_passes(deidentifier: Deidentifier, scanner: Scanner) -> None:
    part10 = make_instance(InstanceSpec(scanner=scanner, burn_in=BurnIn.OUTSIDE, calipers=True)).data
    _, result = deidentifier.deidentify_bytes(part10, verdict=CHECKED)
    assert result.report.text_verdict == "untrusted-checked"


def test_a_clip_takes_two_passes(deidentifier: Deidentifier) -> None:
    spec = InstanceSpec(plane=Plane.ABDOMEN, kind=Kind.ULTRASOUND_MULTIFRAME, frames=8)
    target = io.BytesIO()
    result = deidentifier.deidentify(io.BytesIO(make_instance(spec).data), target, verdict=CHECKED)
    assert result.report.text_passes == 2
