"""What becomes of a file before it is judged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fetalmlops.domain.contracts.identifiers import PseudonymKey
from fetalmlops.domain.deid import Deidentifier
from fetalmlops.domain.deid.pixels.devices import DeviceProfiles
from fetalmlops.domain.errors import PermanentError
from fetalmlops.domain.imaging.frames import read_frames
from fetalmlops.domain.imaging.pipelines import PLAIN, find_pipeline
from fetalmlops.domain.simulation import BurnIn, InstanceSpec, Kind, make_instance
from fetalmlops.gateway.child import DICOM, UNPROVEN, Frames, read_file
from fetalmlops.platform.dicom.decoding import normalize_part10

PIPELINE = (PLAIN, find_pipeline(PLAIN).digest)
NO_DEVICES = DeviceProfiles().encoded


def read(data: bytes, media_type: str = DICOM, trust: str = "validate") -> Frames:
    return read_file(data, media_type, PIPELINE, "stream", trust, NO_DEVICES)


def test_a_dicom_file_gives_the_frames_that_the_stream_makes_of_it() -> None:
    sent = make_instance(InstanceSpec(burn_in=BurnIn.OUTSIDE, kind=Kind.ULTRASOUND_MULTIFRAME, frames=2)).data
    clean, _ = Deidentifier(PseudonymKey("site", bytes(range(32)))).deidentify_bytes(sent)
    expected = normalize_part10(clean)
    found = read(sent)
    pixels = b"".join(chunk.pixels.tobytes() for chunk in read_frames(expected.data).chunks())
    assert found.pixels == pixels
    assert (found.quality, found.frame_numbers) == (expected.quality, expected.frame_numbers)
    assert (found.profile, found.pixel_action) == ("stream", "regions")


@pytest.mark.parametrize(
    ("spec", "trust", "action"),
    [
        (InstanceSpec(), "validate", "regions"),
        (InstanceSpec(regions=False), "validate", UNPROVEN),
        (InstanceSpec(regions=False), "regions", UNPROVEN),
        (InstanceSpec(regions=False, burn_in=BurnIn.NONE), "clean", "source_clean"),
    ],
)
def test_what_counts_as_proof_of_pixels(spec: InstanceSpec, trust: str, action: str) -> None:
    assert read(make_instance(spec).data, trust=trust).pixel_action == action


def test_of_a_picture_nothing_proves_the_pixels_but_a_persons_word() -> None:
    png = bytes(cv2.imencode(".png", np.full((200, 300), 90, np.uint8))[1])
    assert read(png, "image/png").pixel_action == UNPROVEN
    assert read(png, "image/png", "clean").pixel_action == "source_clean"
    assert read(png, "image/png").profile == ""


def test_a_report_is_no_image() -> None:
    with pytest.raises(PermanentError) as caught:
        read(make_instance(InstanceSpec(plane=None, kind=Kind.COMPREHENSIVE)).data)
    assert caught.value.reason == "no-pixel-data"
